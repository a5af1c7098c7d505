"""Teachers with existing weights: loaded from their library or from a file, ready to be stored and used."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from prism_ray.config import NetworkConfig, TeacherConfig
from prism_ray.teachers.build import build_network, build_without_memory, check_classes, input_size
from prism_ray.teachers.library import describe, load_library_weights, network_of
from prism_ray.teachers.teacher import Preprocessing
from prism_ray.teachers.weights import FileWeights, infer_num_classes, match_weights, read_weights


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network with its weights, and all that is needed to use it."""

    network: nn.Module  # in evaluation mode, on the CPU
    config: NetworkConfig  # the bare network, for `build_network`
    num_outputs: int
    preprocessing: Preprocessing
    file: FileWeights | None  # the file that the weights came from; None if there is no such file


def load_pretrained(config: TeacherConfig, num_classes: int, image_size: int, key: str) -> PretrainedNetwork:
    """Load a teacher that has weights, for data of `num_classes` classes in a run of `image_size`.

    Draws nothing from torch's global generator. Raises ConfigError if the weights cannot be loaded, do not
    fit the architecture, or distinguish other classes than the data has.
    """
    bare = network_of(config)
    facts, file = describe(config, key), None
    num_outputs, mean, std = facts.num_classes, facts.mean, facts.std
    with torch.random.fork_rng(devices=[]):  # initial weights, overwritten at once
        if config.weights_path:
            build = partial(build_without_memory, bare, key=key)
            file = read_weights(config, build(num_classes).state_dict().keys(), key)
            state = file.state
            num_outputs = infer_num_classes(config, state, build, key)
            mean, std = file.figures or (mean, std)
        check_classes(config, num_outputs, num_classes, key)  # before a download
        if not config.weights_path:
            state = load_library_weights(config, key)
        network = build_network(bare, num_outputs, key)
    network.load_state_dict(match_weights(config, state, network, key))
    size = input_size(config, image_size, key)
    preprocessing = Preprocessing(config.mean or mean, config.std or std, size)
    return PretrainedNetwork(network.eval(), bare, num_outputs, preprocessing, file)
