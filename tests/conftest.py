"""Shared fixtures: a cache of the test's own, a small pool of chats, the real data if it is there."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

# Tests run side by side: torch's threads would only wait for each other. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Until all tests are collected: libraries make objects by the million, and none of them is garbage.
gc.disable()

REPOSITORY = Path(__file__).resolve().parents[1]
REAL = REPOSITORY.parent / "shared" / "data"


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a cluster go first: side by side, one worker gets the first of all tests in a piece."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Once they are done, the cluster takes no processor time from the others."""
    if item.get_closest_marker("ray") and not (nextitem and nextitem.get_closest_marker("ray")):
        _clusters.close()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIDACT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _settled_heap() -> None:
    """What stands before a test, imported libraries above all, is left out of its collections.

    A model that is closed ends with a full collection; over the objects of all libraries that takes
    longer than most of what is tested.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it skip cleanly without it."""
    if not REAL.is_dir():
        pytest.skip("the real data is not on this machine")
    return REAL


_clusters = ExitStack()  # the one that runs, if any


class RayCluster:
    """A Ray cluster on this machine: a head that works not, and two nodes of a core each."""

    def __init__(self) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self._small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
        self.nodes: list[Any] = []
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **self._small})
        _clusters.callback(self._cluster.shutdown)
        _clusters.callback(ray.shutdown)
        self.address: str = self._cluster.address
        self.cache = Path(os.environ["RAY_TMPDIR"]) / "cache"  # which machines are asked for once
        for _ in range(2):
            self.add()

    def add(self, **more: Any) -> Any:
        """A further node."""
        self.nodes.append(self._cluster.add_node(**{"num_cpus": 1, **self._small, **more}))
        return self.nodes[-1]

    def kill(self, node: Any) -> None:
        """Kill the processes of a node."""
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def ray_cluster() -> RayCluster:
    """One cluster for all tests marked `ray`; whoever kills a node adds another."""
    pytest.importorskip("ray")
    if not hasattr(_clusters, "cluster"):
        environment = pytest.MonkeyPatch()
        _clusters.callback(environment.undo)
        # Paths of sockets are short; and no cluster of somebody else's is found.
        place = _clusters.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp"))
        for name, value in {
            "RAY_TMPDIR": place, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }.items():  # fmt: skip
            environment.setenv(name, value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                cluster = RayCluster()
            except Exception:  # noqa: BLE001 - in half a minute a busy machine may start no node
                cluster = RayCluster()
        _clusters.cluster = cluster  # type: ignore[attr-defined]
        _clusters.callback(delattr, _clusters, "cluster")
    return _clusters.cluster  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def ray_executor(ray_cluster: RayCluster) -> Any:
    """The executor of the cluster."""
    from didact.execution.cluster.executor import clustered

    return clustered(address=ray_cluster.address, cache_dir=ray_cluster.cache)


COLD = [sys.executable, "-m", "didact.cli"]


@contextmanager
def opened(
    modules: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[list[str]]:
    """The first words of a `didact` whose processes have the modules open; see `warm.py`."""
    if not hasattr(os, "fork"):
        yield COLD
        return
    program = [sys.executable, str(REPOSITORY / "tests" / "warm.py")]
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/door"
        server = subprocess.Popen(
            [*program, "serve", place, *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment,
        )  # fmt: skip
        with server:
            server.stdout.readline()
            yield [program[0], "-I", "-S", program[1], "call", place]


@pytest.fixture(scope="session")
def warm() -> Callable[..., Any]:
    """`opened`, for tests that need other modules."""
    return opened


@pytest.fixture(scope="session")
def warm_didact() -> Iterator[list[str]]:
    """The first words of a command line like `python -m didact.cli`, without its start."""
    modules = ["didact.cli.app", "didact.cli.printing", "didact.pipeline", "didact.verbs"]
    modules += ["pandas"] * (importlib.util.find_spec("pandas") is not None)  # Arrow looks for it
    with opened(modules) as words:
        yield words


@pytest.fixture(scope="session")
def stores() -> Any:
    """The module `stores.py` beside this one."""
    spec = importlib.util.spec_from_file_location("stores", REPOSITORY / "tests" / "stores.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["stores"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def s3_server(stores: Any) -> Iterator[tuple[str, str, Any]]:
    """A real S3 server, one in a process: its address, that of a proxy before it, the proxy."""
    pytest.importorskip("moto", reason="S3 is served by moto")
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with stores.proxied(f"http://{host}:{port}") as (address, wire):
        yield f"{host}:{port}", address, wire
    server.stop()


@pytest.fixture
def s3(
    s3_server: tuple[str, str, Any], stores: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A bucket of the test's own, and the environment in which `s3://` leads to it."""
    from pyarrow.fs import S3FileSystem

    direct, address, wire = s3_server
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFTHETEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    filesystem = S3FileSystem(
        endpoint_override=direct, scheme="http", allow_bucket_creation=True, region="us-east-1"
    )
    name = f"bucket-{next(_NUMBERS)}"
    filesystem.create_dir(name)
    wire.faults.clear()
    wire.seen.clear()
    yield stores.Bucket(f"s3://{name}", wire, filesystem)
    wire.faults.clear()


_NUMBERS = itertools.count()


def chat_rows(n: int) -> list[dict[str, object]]:
    """Chats of growing length from three sources, every tenth one a copy of the one before."""
    words = [
        "apple",
        "bread",
        "cloud",
        "dune",
        "ember",
        "frost",
        "glade",
        "harbor",
        "iron",
        "jade",
        "kite",
        "lamp",
    ]
    rows: list[dict[str, object]] = []
    for i in range(n):
        j = i - 1 if i % 10 == 9 else i
        text = " ".join(words[(j * k) % 12] for k in range(1, 4 + j % 40))
        rows.append(
            {
                "id": f"row-{i}",
                "messages": [
                    {"role": "user", "content": f"question {j}: {text}"},
                    {"role": "assistant", "content": f"answer {j * 7}: {text[::-1]}"},
                ],
                "source": ["web", "books", "code"][i % 3],
                "meta": {"score": (i * 37 % 101) / 100},
            }
        )
    return rows


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """300 chats as a JSONL file."""
    path = tmp_path / "pool.jsonl"
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in chat_rows(300)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A target set with two tasks."""
    path = tmp_path / "target.jsonl"
    rows = [
        {"text": "apple bread cloud", "task": "fruit"},
        {"text": "iron jade lamp question 12", "task": "metal"},
    ]
    path.write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in rows))
    return path


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny_tokenizer(folder: Path, *, template: str | None = CHATML) -> int:
    """A byte-level BPE of all bytes and a few merges, so that any text has tokens; its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = ["the answer to the question is not the question itself, and so on and on"] * 9
    tokenizer.train_from_iterator(text, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)
    return len(fast)


def save_tiny_llama(
    folder: Path, *, template: str | None = CHATML, seed: int = 0, **config: Any
) -> Path:
    """A Llama of two layers and its tokenizer, saved to a folder."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    vocab = save_tiny_tokenizer(folder, template=template)
    sizes = {
        "vocab_size": vocab, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "tie_word_embeddings": True, "initializer_range": 0.2,
    }  # fmt: skip
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**{**sizes, **config})).save_pretrained(folder)
    return folder


def _fused(products: int, first: int) -> Callable[..., int]:
    """FLOPs of so many products of `(b, h, S, S)` with head width, from the shapes of q and k."""

    def count(*shapes: Any, **_: Any) -> int:
        (b, h, s, d), k = shapes[first], shapes[first + 1]
        return 2 * products * b * h * s * k[2] * d

    return count


@pytest.fixture(scope="session")
def flop_counter() -> Callable[[], Any]:
    """Torch's FLOP counter, which sees the fused attention of a CPU as well.

    Forward it is two products, backward five: the scores are computed again.
    """
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    seen = {forward: _fused(2, 0), backward: _fused(5, 1)}
    return lambda: FlopCounterMode(display=False, custom_mapping=seen)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a chat template."""
    return save_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def save_llama() -> Callable[..., Path]:
    """`save_tiny_llama`, for tests that need a model of another kind."""
    return save_tiny_llama


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: a BERT of two layers that reads 64 tokens."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-encoder")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.pad_token = tokenizer.eos_token
    ids = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        special_tokens=[("<|im_start|>", ids[0]), ("<|im_end|>", ids[1])],
    )
    tokenizer.save_pretrained(folder / "bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "bert")
    model = SentenceTransformer(str(folder / "bert"), device="cpu")  # adds mean pooling
    model.max_seq_length = 64
    model.save(str(folder / "encoder"), create_model_card=False)
    return folder / "encoder"


@pytest.fixture(scope="session")
def tiny_static(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model2vec folder: a random vector of 8 numbers for each token."""
    pytest.importorskip("model2vec")
    import numpy as np
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("tiny-static")
    tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    shape = (tokenizer.get_vocab_size(), 8)
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    StaticModel(vectors, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def made_prior() -> Any:
    """Five methods whose rates are known: `bm25` is fast in some panels only, `perplexity` in all."""
    from didact.planning.prior import PUBLISHED, Prior

    rates = {"random": 2.3, "bm25": 5.2, "embedding": 3.6, "perplexity": 7.1, "less": 14.3}
    spread = {"random": 0.05, "bm25": 0.6, "embedding": 0.6, "perplexity": 0.15, "less": 0.15}
    rng = np.random.default_rng(17)
    middle = {m: r * np.exp(spread[m] * rng.standard_normal(420)) for m, r in rates.items()}
    return Prior(
        source=PUBLISHED, panels=("one 7B", "another 70B"), rates=rates, middle=middle,
        draws={m: d * np.exp(0.6 * rng.standard_normal(420)) for m, d in middle.items()},
        selector_params={"perplexity": (7e9, 7e9), "less": (7e9, 7e9)}, train_params=(7e9, 7e10),
        noise=0.08, notes=("a made prior",),
    )  # fmt: skip


@pytest.fixture(scope="session")
def made_training() -> Callable[..., Any]:
    """Builds what a training tells of a folded order: the loss falls, and rises in each sweep."""
    import math

    import numpy as np

    from didact.reporting import TrainingFacts
    from didact.training.telemetry import Step

    def build(
        order: Any,
        sources: tuple[str, ...] = ("web", "books", "code"),
        *,
        batch_size: int = 8,
        sweeps: int = 3,
        skipped: int = 0,
        **about: Any,
    ) -> TrainingFacts:
        rng = np.random.default_rng(11)
        size = len(order) // order.epochs
        per_epoch = -(-size // batch_size)
        n = per_epoch * order.epochs
        steps, tokens, flops, seconds = [], 0, 0.0, 0.0
        for i in range(n):
            epoch, place = divmod(i, per_epoch)
            read = min(batch_size, size - place * batch_size)
            inside = place / per_epoch * sweeps % 1  # along the sweep
            hard = 0.35 * inside + rng.normal(0, 0.08) - 0.2 * epoch
            level = 2.2 + 3.5 * math.exp(-i / (0.12 * n + 1)) + hard
            parts = rng.multinomial(read * 40, np.arange(len(sources), 0, -1) / sum(
                range(1, len(sources) + 1)
            ))  # fmt: skip
            told = {
                name: (level + 0.3 * (j - 1) + float(rng.normal(0, 0.1)), float(weight))
                for j, (name, weight) in enumerate(zip(sources, parts, strict=True))
                if weight
            }
            learnt = sum(weight for _, weight in told.values())
            used = read * int(50 + 60 * inside)
            tokens, flops, seconds = tokens + used, flops + used * 6e6, seconds + 0.21
            warm = min(1.0, (i + 1) / (0.05 * n + 1))
            steps.append(
                Step(
                    step=i + 1, epoch=epoch + 1, learnt=learnt,
                    loss=sum(loss * weight for loss, weight in told.values()) / learnt,
                    learning_rate=2e-4 * warm * (0.55 + 0.45 * math.cos(math.pi * i / n)),
                    grad_norm=0.6 + 2 * math.exp(-i / (0.1 * n + 1)) + abs(float(rng.normal(0, 0.2))),
                    samples=read - (i == 0) * skipped, skipped=(i == 0) * skipped, tokens=used,
                    executed=int(used * 1.08), total_tokens=tokens, total_flops=flops,
                    seconds=seconds, loss_by_source=told,
                )
            )  # fmt: skip
        record = {
            "epochs": order.epochs, "flops": flops, "foretold_flops": flops / 1.021,
            "tokens": tokens, "seconds": seconds, "device": "cpu", "devices": 1,
            "dtype": "float32", "mfu": 0.214, "seeds": {"init": None, "draw": 3, "order": 17},
            "settings": {
                "schedule": "cosine", "final_rate": 0.1, "average": 0.99, "learning_rate": 2e-4,
                "batch_size": batch_size, "lora_rank": None,
            },
        }  # fmt: skip
        return TrainingFacts(tuple(steps), {**record, **about})

    return build


@pytest.fixture(scope="session")
def made_evaluation() -> Callable[..., Any]:
    """Builds what held-out files say of models: bits per byte of two, choices of a third."""
    from didact.reporting import EvaluationFacts

    def build(
        models: tuple[str, ...] = ("run/model",),
        *,
        files: tuple[str, ...] = ("heldout.jsonl", "gsm8k.jsonl", "commonsense_qa.jsonl"),
        unit: str = "samples",
        notes: tuple[str, ...] = ("heldout.jsonl: 3 of 250 rows are rows of the training set",),
    ) -> EvaluationFacts:
        records: list[dict[str, Any]] = []

        def tell(place: tuple[str, ...], metric: str, value: float, half: float, n: int) -> None:
            model, file, task, source = place
            higher = not metric.startswith(("bits", "answer_nats"))
            records.append(
                {
                    "model": model, "file": file, "task": task, "source": source,
                    "metric": metric, "higher_is_better": higher, "value": value,
                    "low": value - half, "high": value + half, "n": n, "unit": unit,
                }
            )  # fmt: skip

        for i, model in enumerate(models):
            for file, level in zip(files, (2.81, 3.42), strict=False):
                for metric, more in (("bits_per_byte", 0.0), ("bits_per_byte_all", 0.35)):
                    tell((model, file, "", ""), metric, level + more - 0.3 * i, 0.06, 250)
                    for j, source in enumerate(("web", "books")):
                        place = (model, file, "", source)
                        tell(place, metric, level + 0.2 * j - 0.3 * i, 0.11, 120)
            if len(files) < 3:
                continue
            for task, accuracy, chance in (
                ("", 0.31, 0.22), ("commonsense_qa", 0.34, 0.2), ("date understanding", 0.28, 0.25),
            ):  # fmt: skip
                place = (model, files[2], task, "")
                tell(place, "accuracy", accuracy + 0.04 * i, 0.05, 300)
                tell(place, "accuracy_per_char", accuracy + 0.02, 0.05, 300)
                tell(place, "answer_nats_per_char", 1.31 - 0.1 * i, 0.04, 300)
                tell(place, "answer_probability", accuracy - 0.05, 0.02, 300)
                tell(place, "margin", -0.42 + 0.3 * i, 0.21, 300)
                records.append(
                    {
                        "model": model, "file": files[2], "task": task, "source": "",
                        "metric": "chance", "higher_is_better": True, "value": chance,
                        "low": None, "high": None, "n": 300, "unit": unit,
                    }
                )  # fmt: skip
        return EvaluationFacts(tuple(records), notes)

    return build
