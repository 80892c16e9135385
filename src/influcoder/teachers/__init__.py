"""Teachers: what computes influence exactly, as features whose inner product it is.

`make_teacher` gives the one that settings describe; `TEACHERS` lists the named ones. Higher influence means
that a step on the pool example would raise the likelihood of the query's completion; negative, lower it.
"""
