"""A process that writes a store is killed at random moments and resumed: the same bytes as undisturbed."""

import os
import random
import time
from pathlib import Path

from helpers.folders import contents
from helpers.processes import kill, start, wait_for
from helpers.tiny import save_decoder, tiny_tokenizer
from influcoder.data.examples import Example
from influcoder.model.decoder import Decoder
from influcoder.store.output_folder import claim
from influcoder.store.store import Store
from influcoder.teachers.gradient import GradientTeacher
from influcoder.teachers.settings import TeacherSettings
from influcoder.teachers.write import write_features

SLOW_WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from influcoder.provenance import Provenance
from influcoder.store.codes import Plain
from influcoder.store.output_folder import claim
from influcoder.store.writer import StoreWriter

with claim(Path(sys.argv[1]), resume=True) as folder:
    writer = StoreWriter(folder, kind="features", code=Plain(2000, "float32"), ids=[f"i{n}" for n in range(240)],
                         provenance=Provenance(), shard_rows=8)
    print("started", flush=True)
    for shard in writer.missing():
        rows = np.arange(shard.start, shard.stop)
        time.sleep(0.03)
        writer.write(shard, np.sin(rows[:, None] * np.arange(2000)).astype(np.float32), {"row": rows})
    writer.finish()
"""

TEACHER_WRITER = """
import sys, time
import test_store_kill
from influcoder.store.writer import StoreWriter

write = StoreWriter.write
StoreWriter.write = lambda *arguments: (write(*arguments), time.sleep(0.3))
print("started", flush=True)
test_store_kill.write_gradients(sys.argv[1], sys.argv[2])
"""


def test_killed_at_random_moments_and_resumed(tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm_process = start(SLOW_WRITER, calm)
    calm_process.communicate()
    assert calm_process.returncode == 0
    moments = random.Random(0)
    kills = 0
    for _ in range(5):
        process = start(SLOW_WRITER, killed)
        time.sleep(moments.uniform(0, 0.17))
        kills += kill(process)
    assert kills >= 3
    process = start(SLOW_WRITER, killed)
    process.communicate()
    assert process.returncode == 0
    assert contents(killed, but=(".lock",)) == contents(calm)
    assert len(Store(killed)) == 240


def write_gradients(model, folder):
    settings = TeacherSettings(rank=2, width=256, precision="fp32")
    teacher = GradientTeacher(Decoder.load(model, device="cpu", max_length=64), settings)
    examples = [Example(f"i{number}", f"{number} plus ", f"{number % 7} is four") for number in range(1500)]
    with claim(Path(folder), resume=True) as held:
        write_features(teacher, examples, "pool", held)


def test_killed_teacher_is_resumed_to_the_same_bytes(tmp_path):
    model = save_decoder(tmp_path / "model", tiny_tokenizer())
    write_gradients(model, tmp_path / "calm")
    process = start(TEACHER_WRITER, model, tmp_path / "killed")
    wait_for(tmp_path / "killed" / "shard-00001.safetensors")
    assert kill(process)
    finished = sorted(os.listdir(tmp_path / "killed"))
    assert "manifest.json" not in finished
    assert "shard-00000.parquet" in finished
    write_gradients(model, tmp_path / "killed")
    assert contents(tmp_path / "killed", but=(".lock",)) == contents(tmp_path / "calm")
