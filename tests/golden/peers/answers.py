"""What the trainers that others wrote answer on small data: a function for each, run in its environment."""

from __future__ import annotations

import ast
import json
import tempfile
import types
from pathlib import Path
from typing import Any

# Ids count through all files, so that an id tells its file and place. The sizes are in ids: tails, an empty row count,
# a file of one row, and a list that names a file twice.
SHARDS = {"part-0": 37, "part-1": 64, "part-2": 3, "part-3": 21, "part-4": 8}
LISTED = ["part-0", "part-1", "part-2", "part-3", "part-1", "part-4"]
ROW_LEN = 4
SEED = 6198
DOCUMENTS = [5, 1, 17, 9, 2, 30, 4, 4, 11, 26, 3, 8]  # ids of each
SEQ_LEN = 7


def write_shards(folder: Path, dtype: str) -> dict[str, list[int]]:
    """The raw files of `SHARDS`; their ids by name."""
    import numpy as np

    ids, at = {}, 0
    for name, size in SHARDS.items():
        array = np.arange(at, at + size, dtype=dtype)
        array.tofile(folder / f"{name}.npy")
        ids[name], at = array.tolist(), at + size
    return ids


def in_order_of_ranks(step: tuple[list[list[int]], ...]) -> list[list[int]]:
    """The rows of a batch: rank *r* holds every rank-count-th one from the *r*-th on."""
    return [row for rows in zip(*step, strict=True) for row in rows]


def olmo() -> dict[str, Any]:
    """OLMo's first trainer: `MemMapDataset` and `IterableDataset`, on two epochs, with the index files it writes."""
    import numpy as np
    from olmo.data.iterable_dataset import IterableDataset
    from olmo.data.memmap_dataset import MemMapDataset
    from torch.utils.data import DataLoader

    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = write_shards(folder, "uint16")
        paths = [str(folder / f"{file}.npy") for file in LISTED]
        data = MemMapDataset(*paths, chunk_size=ROW_LEN, memmap_dtype=np.uint16)
        for batch, ranks in ((6, 1), (6, 2), (4, 4)):
            epochs, indices = [], []
            for epoch in (0, 1):
                parts = []
                for rank in range(ranks):
                    work = folder / f"work-{batch}-{ranks}-{epoch}-{rank}"
                    found = IterableDataset(
                        data, batch, seed=SEED, epoch=epoch, drop_last=True, world_size=ranks, rank=rank,
                        fs_local_rank=0, work_dir=work, num_threads=0,
                    )  # fmt: skip
                    loader = DataLoader(
                        found, batch_size=batch // ranks, drop_last=True, collate_fn=lambda items: items
                    )
                    parts.append([[item["input_ids"].tolist() for item in items] for items in loader])
                    raw = (work / "global_indices.npy").read_bytes()
                indices.append(np.frombuffer(raw, dtype="<u4").tolist())
                epochs.append([in_order_of_ranks(step) for step in zip(*parts, strict=True)])
            cases.append({"batch": batch, "ranks": ranks, "epochs": epochs, "global_indices": indices})
    return {"ids": ids, "listed": LISTED, "row_len": ROW_LEN, "seed": SEED, "cases": cases}


def olmo_core() -> dict[str, Any]:
    """OLMo-core's `NumpyFSLDataLoader`: chunked shuffles, batch sizes that change, epochs counted from 1."""
    import numpy as np
    from olmo_core.data import DataCollator, NumpyFSLDataLoader, NumpyFSLDataset
    from olmo_core.data.numpy_dataset import NumpyFSLDatasetBase

    def loader_of(data: NumpyFSLDatasetBase, folder: Path, batch: int, **more: Any) -> NumpyFSLDataLoader:
        found = NumpyFSLDataLoader.wrap_numpy_dataset(
            data,
            global_batch_size=batch * ROW_LEN,
            collator=DataCollator(pad_token_id=0),
            work_dir=folder / f"work-{batch}-{data.max_target_sequence_length}",
            seed=SEED,
            **more,
        )
        assert isinstance(found, NumpyFSLDataLoader)
        return found

    cases = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = write_shards(folder, "uint32")
        for group, batch, change in ((1, 6, None), (2, 6, None), (3, 4, None), (1, 4, [2, 8]), (1, 8, [1, 2])):
            data = NumpyFSLDataset(
                *(folder / f"{file}.npy" for file in LISTED),
                sequence_length=ROW_LEN, pad_token_id=0, eos_token_id=0, vocab_size=1 << 16, dtype=np.uint32,
                max_target_sequence_length=ROW_LEN * group if group > 1 else None,
            )  # fmt: skip
            data.work_dir = folder / "data"
            data.prepare()
            loader, steps = loader_of(data, folder, batch), []
            for epoch in (1, 2):
                loader.reshuffle(epoch)
                while loader.batches_processed < loader.total_batches:
                    steps.append(loader[loader.batches_processed]["input_ids"].tolist())
                    loader.batches_processed += 1
                    if change is not None and len(steps) == change[0]:
                        loader.global_batch_size = change[1] * ROW_LEN
                loader.reset()
            cases.append({"group": group, "batch": batch, "change": change, "steps": steps})
    return {"ids": ids, "listed": LISTED, "row_len": ROW_LEN, "seed": SEED, "cases": cases}


def document_ids() -> list[list[int]]:
    """Documents whose ids count through."""
    found, at = [], 0
    for size in DOCUMENTS:
        found.append(list(range(at, at + size)))
        at += size
    return found


def megatron_core() -> dict[str, Any]:
    """Megatron's `.bin` and `.idx`, byte by byte, and the three maps and samples of its `GPTDataset`."""
    import numpy as np
    import torch
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder
    from megatron.core.datasets.utils import Split

    files, cases = {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for dtype in (np.uint8, np.int8, np.int16, np.int32, np.int64, np.uint16):
            prefix = folder / np.dtype(dtype).name
            builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
            for document in document_ids():
                builder.add_document(torch.tensor([i % 120 for i in document]), [len(document)])
            builder.finalize(f"{prefix}.idx")
            read = IndexedDataset(str(prefix))
            files[np.dtype(dtype).name] = {
                "idx": Path(f"{prefix}.idx").read_bytes().hex(),
                "bin": Path(f"{prefix}.bin").read_bytes().hex() if dtype is np.uint16 else None,
                "documents": [read[i].tolist() for i in range(len(read))],
                "part": read.get(5, offset=3, length=9).tolist(),
            }
        prefix = folder / "samples"
        builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=np.uint16)
        for document in document_ids():
            builder.add_document(torch.tensor(document), [len(document)])
        builder.finalize(f"{prefix}.idx")
        tokenizer = types.SimpleNamespace(vocab_size=1000, eod=0, pad=0, unique_identifiers={})
        for samples in (10, 20, 40):  # one epoch, a last epoch kept apart, several epochs
            settings = GPTDatasetConfig(
                random_seed=1234, sequence_length=SEQ_LEN, split="1,0,0", tokenizer=tokenizer,
                blend=([str(prefix)], None), path_to_cache=str(folder / f"cache-{samples}"),
                reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False,
            )  # fmt: skip
            data = GPTDataset(
                IndexedDataset(str(prefix)), str(prefix), np.arange(len(DOCUMENTS), dtype=np.int32), samples,
                Split.train, settings,
            )  # fmt: skip
            taken = [data._query_document_sample_shuffle_indices(i) for i in range(len(data.shuffle_index))]
            cases.append(
                {
                    "asked": samples,
                    "doc": data.document_index.tolist(),
                    "sample": data.sample_index.tolist(),
                    "shuffle": data.shuffle_index.tolist(),
                    "rows": [ids.tolist() for ids, _ in taken],
                    "documents": [documents.tolist() for _, documents in taken],
                }
            )
        idx, body = Path(f"{prefix}.idx").read_bytes().hex(), Path(f"{prefix}.bin").read_bytes().hex()
    return {"files": files, "samples": {"seq_len": SEQ_LEN, "idx": idx, "bin": body, "cases": cases}}


def datatrove() -> dict[str, Any]:
    """Datatrove's windows over `.ds` files: no overlap, tails dropped file by file."""
    import numpy as np
    from datatrove.utils.dataset import DatatroveFolderDataset

    cases = []
    for id_bytes in (2, 4):
        with tempfile.TemporaryDirectory() as name:
            at, files = 7, {}
            for number, size in enumerate((23, 40, 4, 10, 5)):
                path = Path(name) / f"{number:05d}_tokens.ds"
                np.arange(at, at + size, dtype=f"<u{id_bytes}").tofile(path)
                files[path.name], at = list(range(at, at + size)), at + size
            data = DatatroveFolderDataset(name, seq_len=4, token_size=id_bytes, recursive=False)
            windows = [data[i]["input_ids"].tolist() for i in range(len(data))]
            cases.append({"id_bytes": id_bytes, "seq_len": 4, "files": files, "windows": windows})
    return {"cases": cases}


def gpt_neox(source: Path) -> dict[str, Any]:
    """GPT-NeoX's `GPT2Dataset` and what builds its maps, cut out of its file: the rest of it wants GPUs."""
    import numpy as np

    wanted = {"GPT2Dataset", "_num_tokens", "_num_epochs", "_build_doc_idx", "_build_sample_idx", "_build_shuffle_idx"}
    torch = types.SimpleNamespace(utils=types.SimpleNamespace(data=types.SimpleNamespace(Dataset=object)))
    code = cut_out(source, "megatron/data/gpt2_dataset.py", wanted, {"np": np, "torch": torch})
    documents, sizes = document_ids(), np.array(DOCUMENTS, dtype=np.int32)

    class Indexed:
        """What `GPT2Dataset` asks of an indexed dataset."""

        def get(self, index: int, offset: int = 0, length: int | None = None) -> Any:
            ids = documents[int(index)]
            stop = len(ids) if length is None else int(offset) + int(length)
            return np.array(ids[int(offset) : stop], dtype=np.uint16)

    cases, numbers = [], np.arange(len(DOCUMENTS), dtype=np.int32)
    for samples, seed in ((10, 1234), (40, 7)):
        tokens = code["_num_tokens"](numbers, sizes)
        epochs = code["_num_epochs"](tokens, SEQ_LEN, samples)
        state = np.random.RandomState(seed)
        data = code["GPT2Dataset"].__new__(code["GPT2Dataset"])
        data.doc_idx = code["_build_doc_idx"](numbers, epochs, state)
        data.sample_idx = code["_build_sample_idx"](sizes, data.doc_idx, SEQ_LEN, epochs, tokens)
        data.shuffle_idx = code["_build_shuffle_idx"](data.sample_idx.shape[0] - 1, state)
        data.indexed_dataset, data.seq_length = Indexed(), SEQ_LEN
        data.label_dataset = data.reward_dataset = data.ref_dataset = None
        rows = [data[i]["text"].tolist() for i in range(len(data.shuffle_idx))]
        cases.append(
            {
                "asked": samples,
                "epochs": epochs,
                "seed": seed,
                "doc": data.doc_idx.tolist(),
                "sample": data.sample_idx.tolist(),
                "shuffle": data.shuffle_idx.tolist(),
                "rows": rows,
            }
        )
    return {"documents": documents, "seq_len": SEQ_LEN, "cases": cases}


def amber_train(source: Path) -> dict[str, Any]:
    """Amber's `load_jsonl_examples`, cut out of its file, for processes that were started with several chunks."""
    import numpy as np

    bar = types.SimpleNamespace(tqdm=lambda items, desc: items)  # noqa: ARG005
    code = cut_out(source, "main_utils.py", {"load_jsonl_examples"}, {"np": np, "json": json, "tqdm": bar})
    rows, ranks, micro, cases = 23, 2, 3, []
    with tempfile.TemporaryDirectory() as name:
        chunks = [Path(name) / f"train_{chunk}.jsonl" for chunk in range(4)]
        for number, chunk in enumerate(chunks):
            chunk.write_text("".join(json.dumps({"token_ids": [number * 100 + row]}) + "\n" for row in range(rows)))
        for starts in ([0], [0, 2], [0, 1, 3]):
            batches = []
            for number, chunk in enumerate(chunks):
                start = max(first for first in starts if first <= number)
                parts = []
                for rank in range(ranks):
                    np.random.seed(11111 + start)  # main.py: seed_everything(RANDOM_SEED + last_ckpt_idx + 1)
                    for _ in range(number - start):
                        np.random.permutation(rows)
                    parts.append(code["load_jsonl_examples"](chunk, rows, True, ranks * micro, rank, ranks))
                steps = len(parts[0]) // micro
                batches.append(
                    [
                        [parts[rank][step * micro + i]["token_ids"][0] for i in range(micro) for rank in range(ranks)]
                        for step in range(steps)
                    ]
                )
            cases.append({"starts": starts, "chunks": batches})
    return {"seed": 11111, "rows": rows, "batch": ranks * micro, "cases": cases}


def cut_out(source: Path, file: str, names: set[str], given: dict[str, Any]) -> dict[str, Any]:
    """Some functions and classes of a file, run without the rest of it."""
    tree = ast.parse((source / file).read_text())
    tree.body = [part for part in tree.body if getattr(part, "name", None) in names]
    space = dict(given)
    exec(compile(tree, file, "exec"), space)
    return space
