"""Both sides of the features of a tiny teacher that learns, in shards of eight, by any runner."""

from influcoder.data.examples import Example
from influcoder.model.decoder import Decoder
from influcoder.teachers import write as writing
from influcoder.teachers.fitted import fitted
from influcoder.teachers.make import make_teacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.write import RoleExamples, write_sides

SETTINGS = TeacherSettings.named("logra", rank=4, precision="fp32", fit_examples=32, token_budget=400)


def facts(count, start=0):
    return [Example(f"f{number}", f"{number} plus ", f"{number % 7} is four") for number in range(start, start + count)]


def write_both_sides(model, folder, runner, decoder=None):
    usual, writing.SHARD_ROWS = writing.SHARD_ROWS, 8
    try:
        teacher = make_teacher(decoder or Decoder.load(model, device="cpu", max_length=64), SETTINGS)
        folder.mkdir(exist_ok=True)
        fitted(teacher, facts(24), facts(12, 50), folder)
        sides = [
            RoleExamples("query", facts(12, 50), folder / "queries"),
            RoleExamples("pool", facts(40), folder / "pool"),
        ]
        return write_sides(teacher, sides, runner=runner)
    finally:
        writing.SHARD_ROWS = usual
