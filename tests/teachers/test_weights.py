"""Weights from files: what is read, what is refused, and how tensors find their places."""

import argparse
import io
import os
import pickle
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from prism_ray.config import TeacherConfig
from prism_ray.errors import ConfigError
from prism_ray.teachers.weights import METADATA, FileWeights, infer_num_classes, match_weights, read_weights

KEY = "teachers.pool.3"


def make_network(num_classes: int) -> nn.Module:
    torch.manual_seed(num_classes)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, num_classes))


def teacher(path: Path | str, **values: Any) -> TeacherConfig:
    return TeacherConfig.model_validate({"name": "x", "arch": f"timm:test_resnet@{path}", **values})


def save(value: Any, path: Path) -> TeacherConfig:
    torch.save(value, path)
    return teacher(path)


def read(config: TeacherConfig) -> FileWeights:
    return read_weights(config, make_network(5).state_dict().keys(), KEY)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("wrap", ["", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_state_dicts_are_unwrapped(tmp_path: Path, wrap: str, prefix: str) -> None:
    """Would catch checkpoints of common training scripts that are refused, or load under wrong names."""
    state = make_network(5).state_dict()
    held: Any = {prefix + name: value for name, value in state.items()}
    found = read(save({wrap: held, "epoch": 7} if wrap else held, tmp_path / "x.pth"))
    assert equal(found.state, dict(state))


def test_safetensors_are_read_with_their_hash(tmp_path: Path) -> None:
    """Would catch a hash of something other than the file's bytes, or of a network's."""
    import hashlib

    state = make_network(5).state_dict()
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(state, path)
    found = read(teacher(path))
    assert equal({name: found.state[name] for name in state}, dict(state))
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "metadata",
    [
        "no JSON",
        "[]",
        '{"mean": [0, 0, 0]}',
        '{"mean": [0, 0, 0], "std": [1, 1]}',
        '{"mean": [0, 0, 0], "std": [1, 0, 1]}',
        '{"mean": [0, NaN, 0], "std": [1, 1, 1]}',
        '{"mean": "x", "std": [1, 1, 1]}',
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path: Path, metadata: str) -> None:
    """Would catch a division by 0 in every input, or a traceback, from a file that was edited."""
    path = tmp_path / "x.safetensors"
    safetensors.torch.save_file(make_network(5).state_dict(), path, {METADATA: metadata})
    with pytest.raises(ConfigError, match=r"x\.safetensors is damaged"):
        read(teacher(path))


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("import builtins; builtins.bomb_went_off = True",))


def test_files_that_run_code_are_not_loaded(tmp_path: Path) -> None:
    """Would catch an unpickler that runs what a downloaded file says."""
    import builtins

    config = save({"state_dict": make_network(5).state_dict(), "arguments": Bomb()}, tmp_path / "x.pth")
    with pytest.raises(ConfigError, match=r"can run code.*state_dict"):
        read(config)
    (tmp_path / "y.bin").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ConfigError, match=KEY):
        read(teacher(tmp_path / "y.bin"))
    assert not hasattr(builtins, "bomb_went_off")


def repacked(path: Path, compression: int, pickled: bytes | None = None) -> TeacherConfig:
    """Write a file of torch's anew, with packed entries, or another pickle."""
    entries = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry in entries.infolist():
            is_pickle = pickled is not None and entry.filename.endswith("data.pkl")
            archive.writestr(entry.filename, pickled if is_pickle else entries.read(entry))
    return teacher(path)


def test_an_archive_that_grows_is_not_unpacked(tmp_path: Path) -> None:
    """Catches 200 kB that unpack to 200 MB, or to terabytes."""
    save({"a": torch.zeros(2_000_000)}, tmp_path / "x.pth")
    read(repacked(tmp_path / "x.pth", zipfile.ZIP_STORED))
    with pytest.raises(
        ConfigError, match=r"x\.pth is damaged .*: its entries are packed, .*save it with torch\.save"
    ):
        read(repacked(tmp_path / "x.pth", zipfile.ZIP_DEFLATED))


def test_a_mapping_that_holds_itself_ends(tmp_path: Path) -> None:
    """Catches a state dict that is its own `state_dict`, unwrapped for ever."""
    save({"a": 1}, tmp_path / "x.pth")
    itself = b"\x80\x02}q\x00X\n\x00\x00\x00state_dictq\x01h\x00s."
    assert list(pickle.loads(itself)) == ["state_dict"]
    with pytest.raises(ConfigError, match=r"no tensors in 'state_dict', expected a state dict"):
        read(repacked(tmp_path / "x.pth", zipfile.ZIP_STORED, itself))


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(10**12),
        torch.empty(10, device="meta"),
        torch.eye(3).to_sparse(),
        torch.zeros(3).as_strided((3, 10**6), (1, 0)),
    ],
    ids=["said once", "meta", "sparse", "strides of 0"],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_tensors_without_their_values_are_refused(tmp_path: Path, value: Tensor) -> None:
    """Catches a classifier of 10**12 classes in a file of 2 kB, for which a network would be built."""
    state = make_network(5).state_dict() | {"3.weight": value}
    with pytest.raises(
        ConfigError, match=r"entry '3\.weight' of the file is not a plain tensor, or has more values"
    ):
        read(save(state, tmp_path / "x.pth"))


@pytest.mark.parametrize("path", ["/dev/zero", "{folder}/pipe.pth", "{folder}"])
def test_what_is_no_file_is_not_read(tmp_path: Path, path: str) -> None:
    """Catches a path of the config at which reading never ends."""
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "holes.pth").touch()
    os.truncate(tmp_path / "holes.pth", 2**40)
    with pytest.raises(ConfigError, match=r"cannot be read: (not a regular file|it is a folder)"):
        read(teacher(path.format(folder=tmp_path)))
    with pytest.raises(ConfigError, match=r"cannot be read: 1,099,511,627,776 bytes, and weights can have"):
        read(teacher(tmp_path / "holes.pth"))


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 300, -20])
def test_damaged_files_are_refused_by_name(tmp_path: Path, ending: str, keep: int) -> None:
    """Would catch a traceback without the file's name, or half a file that is taken for a whole one."""
    path = tmp_path / f"x{ending}"
    state = make_network(5).state_dict()
    if ending == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError) as caught:
        read(teacher(path))
    assert KEY in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", [[1, 2], {}, {"a": 1}, torch.zeros(2), {"state_dict": {"a": None}}])
def test_files_of_other_things_are_refused(tmp_path: Path, value: Any) -> None:
    """Would catch an optimiser's state, or a single tensor, ending in a traceback."""
    with pytest.raises(ConfigError, match="state dict"):
        read(save(value, tmp_path / "x.pt"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Would catch a path that exists on the driver alone, reported without saying so."""
    with pytest.raises(ConfigError, match=r"none\.pth cannot be read.*every machine"):
        read(teacher(tmp_path / "none.pth"))


def test_auxiliary_heads_are_left_out(tmp_path: Path) -> None:
    """Would catch torchvision's own inception weights being refused for the heads that we drop."""
    state = dict(make_network(5).state_dict())
    heads = {"AuxLogits.fc.weight": torch.zeros(2), "aux1.fc.bias": torch.zeros(2)}
    assert equal(read(save({**state, **heads}, tmp_path / "x.pth")).state, state)


def test_the_number_of_classes_is_the_files(tmp_path: Path) -> None:
    """Would catch a network built with the data's class count, into which the weights cannot go."""
    state = read(save(make_network(17).state_dict(), tmp_path / "x.pth")).state
    assert infer_num_classes(teacher(tmp_path / "x.pth"), state, make_network, KEY) == 17
    without_counter = [value for value in state.values() if value.dim()]
    renamed = {f"other{number}": value for number, value in enumerate(without_counter)}
    by_position = teacher(tmp_path / "x.pth", weights_by="position")
    assert infer_num_classes(by_position, renamed, make_network, KEY) == 17
    with pytest.raises(ConfigError, match=r"no '3\.weight'.*weights_by: position would take them"):
        infer_num_classes(teacher(tmp_path / "x.pth"), renamed, make_network, KEY)


def test_names_and_positions_lead_to_the_same_places() -> None:
    """Would catch tensors of equal shape that change places."""
    network = make_network(5)
    state = {name: torch.rand(value.shape) for name, value in network.state_dict().items()}
    state["1.num_batches_tracked"] = torch.tensor(9)
    assert equal(match_weights(teacher("x.pth"), state, network, KEY), state)
    shuffled = dict(reversed(state.items()))
    assert equal(match_weights(teacher("x.pth"), shuffled, network, KEY), state)
    renamed = {f"other{number}": value for number, value in enumerate(state.values())}
    renamed = {
        name: value for name, value in renamed.items() if value.dim()
    }  # without the counter, as old files
    matched = match_weights(teacher("x.pth", weights_by="position"), renamed, network, KEY)
    assert all(torch.equal(matched[name], state[name]) for name in state if "num_batches" not in name)
    network.load_state_dict(matched)


@pytest.mark.parametrize("by", ["name", "position"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda state: state.pop("1.running_mean"), ["1.running_mean"]),
        (lambda state: state.update({"4.weight": torch.zeros(2, 2)}), ["4.weight"]),
        (lambda state: state.update({"0.bias": torch.zeros(9)}), ["0.bias", "(9,)", "(4,)"]),
    ],
)
def test_the_first_entry_that_differs_is_named(by: str, damage: Any, words: list[str]) -> None:
    """Would catch weights that load in part, or a complaint of hundreds of lines without the first cause."""
    network = make_network(5)
    state = dict(network.state_dict())
    if by == "position":
        del state["1.num_batches_tracked"]
        if words == ["1.running_mean"]:  # the next tensors have its shape, up to these two
            words = ["'3.weight' (5, 16)", "'1.running_var' (4,)"]
    damage(state)
    with pytest.raises(ConfigError) as caught:
        match_weights(teacher("x.pth", weights_by=by), state, network, KEY)
    message = str(caught.value)
    assert all(word in message for word in [KEY, f"matched by {by}", *words])


def test_positions_in_safetensors_are_refused(tmp_path: Path) -> None:
    """Would catch tensors in the order of their names being taken for the order of layers."""
    config = teacher(tmp_path / "x.safetensors", weights_by="position")
    with pytest.raises(ConfigError, match=r"keeps no order"):
        match_weights(config, make_network(5).state_dict(), make_network(5), KEY)


@pytest.mark.parametrize("by", ["name", "position"])
@pytest.mark.parametrize(
    ("entry", "change", "message"),
    [
        ("1.running_var", lambda value: -value, r"has negative variances \(down to -1\)"),
        ("1.running_var", torch.zeros_like, "is 0 throughout"),
        ("1.running_var", lambda value: value * float("nan"), "has values that are not finite"),
        ("1.running_mean", lambda value: value + float("inf"), "has values that are not finite"),
        ("3.weight", lambda value: value * float("nan"), "has values that are not finite"),
        ("0.weight", lambda value: value.to(torch.int8), "is int8: quantised weights are not read"),
    ],
)
def test_values_of_no_trained_network_are_refused(by: str, entry: str, change: Any, message: str) -> None:
    """Would catch a file's negative variances told an hour later as "lower the learning rate"."""
    network = make_network(5)
    state = dict(network.state_dict())
    state[entry] = change(state[entry])
    if by == "position":
        entry, state = f"x{entry}", {f"x{name}": value for name, value in state.items()}
    with pytest.raises(ConfigError, match=f"entry '{entry}' of the weights {message}"):
        match_weights(teacher("x.pth", weights_by=by), state, network, KEY)


def test_a_variance_that_is_0_in_part_is_taken() -> None:
    """Would catch networks with dead channels being refused."""
    network = make_network(5)
    network.state_dict()["1.running_var"][1:] = 0.0
    match_weights(teacher("x.pth"), network.state_dict(), network, KEY)


def test_the_network_of_a_key_is_read(tmp_path: Path) -> None:
    """Would catch a key that belongs to the fingerprint, while the weights are those of another network."""
    first, second = (make_network(5).state_dict() for _ in range(2))
    second["0.weight"] = second["0.weight"] + 1
    save({"model": first, "model_ema": second}, tmp_path / "x.pth")
    taken = read(teacher(tmp_path / "x.pth"))
    assert equal(taken.state, dict(second))
    assert (taken.network, taken.other_networks) == ("model_ema", ("model",))
    assert equal(read(teacher(f"{tmp_path / 'x.pth'}#model")).state, dict(first))
    with pytest.raises(ConfigError, match=r"no network 'ema': it has 'model', 'model_ema'"):
        read(teacher(f"{tmp_path / 'x.pth'}#ema"))


def test_arguments_of_a_training_script_do_no_harm(tmp_path: Path) -> None:
    """Would catch timm's own checkpoints, which have an argparse.Namespace, being refused."""
    state = make_network(5).state_dict()
    values = {"state_dict": state, "args": argparse.Namespace(lr=0.1), "arch": "resnet"}
    assert equal(read(save(values, tmp_path / "x.pth")).state, dict(state))


@pytest.mark.parametrize("whole", [False, True])
def test_the_remedy_for_a_file_with_more_than_tensors_works(tmp_path: Path, whole: bool) -> None:
    """Would catch a printed command that does not run, or whose file is refused again."""
    network = make_network(5)
    values = network if whole else {"model": network.state_dict(), "epoch": 3, "best": Path("x")}
    with pytest.raises(ConfigError, match=r"If you trust it, .*: python -c") as caught:
        read(save(values, tmp_path / "it's.pth"))
    command = str(caught.value).rpartition("give the new file: ")[2]
    command = command.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, timeout=100)
    assert equal(read(teacher(tmp_path / "it's-weights.pth")).state, dict(network.state_dict()))


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_other_archives_are_told_by_what_they_are(tmp_path: Path) -> None:
    """Would catch a TorchScript file, or arrays of numpy, as "damaged" and nothing else."""
    torch.jit.save(torch.jit.trace(make_network(5).eval(), torch.rand(1, 3, 4, 4)), tmp_path / "jit.pth")
    with pytest.raises(ConfigError, match=r"it is a TorchScript archive; save torch\.jit\.load"):
        read(teacher(tmp_path / "jit.pth"))
    numpy.savez(tmp_path / "arrays.npz", x=numpy.zeros(3))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pth")
    with pytest.raises(ConfigError, match=r"it is a zip archive, and not one of torch\.save"):
        read(teacher(tmp_path / "arrays.pth"))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ConfigError, match=r"neither a file of torch\.save nor safetensors"):
        read(teacher(tmp_path / "plain.pth"))
