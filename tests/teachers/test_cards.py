"""Teachers as files: what is written is what is loaded, and damage is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prism_ray.config import NetworkConfig, TeacherConfig
from prism_ray.errors import StoreError
from prism_ray.store import Commit, PartFile, StoreFiles, write_part
from prism_ray.teachers.batchnorm import find_batchnorm
from prism_ray.teachers.build import build_network, count_parameters
from prism_ray.teachers.cards import TeacherCard, encode_weights, load_teacher, read_card
from prism_ray.teachers.teacher import Preprocessing

CPU = torch.device("cpu")
DENSENET = NetworkConfig(
    arch="timm:densenet121", stem="small", kwargs={"growth_rate": 8, "block_config": [2, 2]}
)


@pytest.fixture
def files(tmp_path: Path) -> StoreFiles:
    return StoreFiles(str(tmp_path))


@pytest.fixture
def network() -> nn.Module:
    """A network whose running statistics are not those of a fresh one, in the layout of training."""
    torch.manual_seed(0)
    network = build_network(DENSENET, 5, "key").to(memory_format=torch.channels_last).train()
    with torch.no_grad():
        network(torch.rand(4, 3, 16, 16))
    return network


def make_card(network: nn.Module, config: NetworkConfig) -> TeacherCard:
    return TeacherCard(
        name="dense",
        network=config.model_dump(mode="json"),
        num_classes=5,
        preprocessing=Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 16),
        num_parameters=count_parameters(network),
        num_bn_layers=len(find_batchnorm(network)),
        test_accuracy=0.5,
        weights_sha256="",
    )


def commit(files: StoreFiles, weights: bytes, card: bytes) -> Commit:
    parts: tuple[PartFile, ...] = (
        write_part(files, lambda attempt: f"teachers/dense/weights-{attempt}.safetensors", weights),
        write_part(files, lambda attempt: f"teachers/dense/teacher-{attempt}.json", card),
    )
    return Commit("squeeze/dense", "", parts, {}, 0.0, "", "")


def test_round_trip_keeps_every_bit(files: StoreFiles, network: nn.Module) -> None:
    """Would catch running statistics, constructor arguments, the stem or the preprocessing being lost."""
    card = make_card(network, DENSENET)
    teacher = load_teacher(files, commit(files, encode_weights(network), card.to_json()), CPU)
    assert teacher.name == "dense"
    assert teacher.preprocessing == card.preprocessing
    assert not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    state = teacher.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(teacher.network(x), network.eval()(x))


def test_weights_are_the_same_bytes_in_every_layout(network: nn.Module) -> None:
    """Would catch bytes that depend on how the tensors lie in memory."""
    layout = encode_weights(network)
    assert encode_weights(network.to(memory_format=torch.contiguous_format)) == layout


def test_card_round_trip(network: nn.Module) -> None:
    """Would catch lists where tuples were, so that equal cards compare unequal."""
    card = make_card(network, DENSENET)
    assert TeacherCard.from_json(card.to_json()) == card


def test_classes_of_the_network_come_back(files: StoreFiles, network: nn.Module) -> None:
    """Would catch a network of more classes than the data's being rebuilt without its other outputs."""
    card = replace(make_card(network, DENSENET), class_indices=(4, 1), source="timm:x@y", test_accuracy=None)
    done = commit(files, encode_weights(network), card.to_json())
    teacher = load_teacher(files, done, CPU)
    assert teacher.class_indices is not None
    assert teacher.class_indices.tolist() == [4, 1]
    with torch.no_grad():
        logits = teacher.network(torch.rand(2, 3, 16, 16))
    assert logits.shape == (2, 5)
    assert teacher.pick_classes(logits).shape == (2, 2)
    assert read_card(files, done) == card


def test_indices_beyond_the_outputs_are_refused(files: StoreFiles, network: nn.Module) -> None:
    """Would catch a card that was changed by hand failing in the middle of recover."""
    card = replace(make_card(network, DENSENET), class_indices=(4, 5))
    with pytest.raises(StoreError, match="squeeze/dense"):
        load_teacher(files, commit(files, encode_weights(network), card.to_json()), CPU)


def test_cards_of_older_stores_are_read(network: nn.Module) -> None:
    """Would catch stores of before class_indices being unreadable."""
    card = make_card(network, DENSENET)
    values = json.loads(card.to_json())
    for name in ("class_indices", "source", "source_sha256"):
        del values[name]
    assert TeacherCard.from_json(json.dumps(values).encode()) == card


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda card: card.update(num_classes=10**12),
            r"has the shape \(5,\) in the file, and \(1000000000000,\) in",
        ),
        (lambda card: card.update(num_classes=-1), "num_classes: must be 0 or more"),
        (lambda card: card.update(num_classes="5"), "num_classes: must be a whole number"),
        (lambda card: card.update(class_indices=[-1]), r"class_indices\.0: must be 0 or more"),
        (lambda card: card.update(class_indices=5), "class_indices: must be a list"),
        (lambda card: card["preprocessing"].update(std=[1, 0, 1]), "mean and std are"),
        (lambda card: card["preprocessing"].update(mean=[1, 0]), r"preprocessing\.mean"),
        (lambda card: card["preprocessing"].update(size="x"), r"preprocessing\.size: must be a whole number"),
        (lambda card: card["network"]["kwargs"].update(checkpoint_path="/x.pth"), "checkpoint_path of"),
        (lambda card: card["network"].update(arch="timm:hf_hub:me/x"), "arch"),
        (lambda card: card["network"].update(arch="torchvision:os.system"), "has no such model"),
    ],
)
def test_a_card_from_elsewhere_is_refused(
    files: StoreFiles, network: nn.Module, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    """Catches a network of terabytes, one from the internet or another file, and a TypeError in recover."""
    card = json.loads(make_card(network, DENSENET).to_json())
    change(card)
    with pytest.raises(StoreError, match=problem) as caught:
        load_teacher(files, commit(files, encode_weights(network), json.dumps(card).encode()), CPU)
    assert "`prism-ray retry" in str(caught.value)


@pytest.mark.parametrize("card", [b'{"name": ' * 10**5, b'{"a": "' + b"x" * 10 * 2**20 + b'"}'])
def test_a_card_of_ten_megabytes_or_without_end_is_refused(
    files: StoreFiles, network: nn.Module, card: bytes
) -> None:
    """Catches a RecursionError, and a card that is parsed for its size."""
    with pytest.raises(StoreError, match=r"squeeze/dense .* card is damaged|4,194,304 at most"):
        read_card(files, commit(files, encode_weights(network), card))


def test_weights_that_are_not_finite_are_refused(files: StoreFiles, network: nn.Module) -> None:
    """Catches NaN found out in the middle of recover, as a learning rate that is too high."""
    card = make_card(network, DENSENET).to_json()
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    with pytest.raises(StoreError, match="has values that are not finite"):
        load_teacher(files, commit(files, encode_weights(network), card), CPU)


def test_a_card_is_of_the_network_that_the_config_names(network: nn.Module) -> None:
    """Catches a store whose card names another network than the config, to be built in its place."""
    card = make_card(network, DENSENET)
    config = TeacherConfig(name="dense", **DENSENET.model_dump())
    card.check_against(config, 16)
    card.check_against(config.model_copy(update={"input_size": "own"}), 99)
    card.check_against(config.model_copy(update={"input_size": 16}), 99)
    for other in ({"stem": "imagenet"}, {"kwargs": {}}, {"arch": "timm:test_resnet"}):
        with pytest.raises(ValueError, match=r"^network: it is not"):
            card.check_against(config.model_copy(update=other), 16)
    with pytest.raises(ValueError, match=r"^preprocessing\.size = 16"):
        card.check_against(config, 32)
    with pytest.raises(ValueError, match=r"^preprocessing\.size = 16"):
        card.check_against(config.model_copy(update={"input_size": 32}), 16)


def test_weights_of_another_architecture_are_refused(files: StoreFiles, network: nn.Module) -> None:
    """Would catch weights that load in part (strict=False), leaving layers at random."""
    card = make_card(network, NetworkConfig(arch="timm:test_resnet"))
    with pytest.raises(StoreError, match="squeeze/dense"):
        load_teacher(files, commit(files, encode_weights(network), card.to_json()), CPU)


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(files: StoreFiles, network: nn.Module, keep: int) -> None:
    """Would catch half a file being taken for a network, or a traceback without the store's name."""
    weights = encode_weights(network)[:keep]
    with pytest.raises(StoreError) as caught:
        load_teacher(files, commit(files, weights, make_card(network, DENSENET).to_json()), CPU)
    assert files.location in str(caught.value)
    assert "squeeze/dense cannot be used" in str(caught.value)


def test_weights_of_another_hash_are_refused(files: StoreFiles, network: nn.Module) -> None:
    """Would catch a flipped bit, or swapped weights of the same shape, supervising all further images."""
    done = commit(files, encode_weights(network), make_card(network, DENSENET).to_json())
    path = Path(files.location) / done.files[0].name
    damaged = bytearray(path.read_bytes())
    damaged[-2] ^= 0x40
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=f"{done.files[0].name} is damaged: its SHA-256 is not .* --repair"):
        load_teacher(files, done, CPU)


def test_damaged_cards_are_refused(files: StoreFiles, network: nn.Module) -> None:
    """Would catch a card that is no JSON, lacks a key, or names no architecture ending in a traceback."""
    weights = encode_weights(network)
    good = json.loads(make_card(network, DENSENET).to_json())
    unknown = {**good, "network": {**good["network"], "arch": "timm:no_such_network"}}
    wrong = {**good, "network": {**good["network"], "colour": "red"}}
    lacking = {key: value for key, value in good.items() if key != "num_classes"}
    for card in (b"", b"{", b"[]", *(json.dumps(values).encode() for values in (unknown, wrong, lacking))):
        done = commit(files, weights, card)
        with pytest.raises(StoreError, match="squeeze/dense"):
            load_teacher(files, done, CPU)
        if b"network" not in card:
            with pytest.raises(StoreError, match="squeeze/dense"):
                read_card(files, done)
