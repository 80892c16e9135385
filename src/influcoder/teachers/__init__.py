"""Teachers: what computes influence exactly, as features whose inner product it is.

`make_teacher` gives the one that settings describe; `TEACHERS` lists the named ones. Higher influence means
that a step on the pool example would raise the likelihood of the query's completion; negative, lower it.
"""

from influcoder.teachers.again import teacher_again
from influcoder.teachers.check import check_teacher, reliability, self_check
from influcoder.teachers.checkpoints import Checkpoint
from influcoder.teachers.features import Features, Role, Teacher
from influcoder.teachers.forward import ForwardTeacher
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.learnt import fitted, read_fitted
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TEACHERS, TeacherSettings
from influcoder.teachers.write import Side, bytes_to_write, write_features, write_sides

__all__ = [
    "Checkpoint",
    "Features",
    "ForwardTeacher",
    "GradientTeacher",
    "Role",
    "Side",
    "TEACHERS",
    "Teacher",
    "TeacherSettings",
    "bytes_to_write",
    "check_teacher",
    "fitted",
    "read_fitted",
    "make_teacher",
    "reliability",
    "self_check",
    "teacher_again",
    "write_features",
    "write_sides",
]
