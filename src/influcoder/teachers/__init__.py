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
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TEACHERS, TeacherSettings
from influcoder.teachers.write import fitted, read_fitted, write_features

__all__ = [
    "Checkpoint",
    "Features",
    "ForwardTeacher",
    "GradientTeacher",
    "Role",
    "TEACHERS",
    "Teacher",
    "TeacherSettings",
    "check_teacher",
    "fitted",
    "read_fitted",
    "make_teacher",
    "reliability",
    "self_check",
    "teacher_again",
    "write_features",
]
