"""Matrices as other tools save them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq


def save_lists(path, array, ids=None, kind=pa.list_):
    columns = {"features": pa.array(array.tolist(), kind(pa.from_numpy_dtype(array.dtype)))}
    pq.write_table(pa.table(({} if ids is None else {"id": ids}) | columns), path)


def save_wide(path, array, ids=None, names=None):
    columns = {name: array[:, n] for n, name in enumerate(names or [f"f{n}" for n in range(array.shape[1])])}
    pq.write_table(pa.table(({} if ids is None else {"id": ids}) | columns), path)


def save_bergson(folder, array, *, name=None, sizes=None, data=None, **more):
    """What bergson 2.5's create_index writes; bfloat16 is given as its 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gradients.bin").write_bytes(array.tobytes())
    info = {
        "attribute_tokens": False,
        "num_items": len(array),
        "num_grads": len(array),
        "grad_sizes": sizes or {"layers.0.q": 1, "layers.0.v": array.shape[1] - 1},
        "base_dtype": name or array.dtype.name,
    }
    (folder / "info.json").write_text(json.dumps(info | more))
    if data is not None:
        import datasets

        datasets.Dataset.from_dict(data).save_to_disk(str(folder / "data.hf"))
    return folder
