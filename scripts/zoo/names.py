"""Which of GluonCV's networks the table is about, and how each is built: without weights, for small images."""
from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple

TASKS = {       # family: task; the networks of the others classify images
    'ssd|yolo|rcnn|center_net': 'detection',
    'fcn|pspnet|deeplab|danet|icnet|fastscnn': 'segmentation',
    'simple_pose|alpha_pose': 'pose',
    'action_recognition|monodepth|siamrpn': '',         # videos, depth and tracking are not in the table
}
EXCEPTIONS = {'^hrnet.*_s$': 'segmentation', '^darknet': 'classification'}     # in modules of another task
LEFT_OUT = {        # names: what they are
    r'_int8$': 'quantised networks, which are files to download',
    r'(^|_)custom(_|$)': 'networks of the table under a name that needs classes of your own',
}
DATA_SET = re.compile(r'_(coco|voc|ade|citys|mhpv1)$')      # only the head depends on it: the first name is taken
SIZES = {       # names: least height and width, where it is not SMALL
    '^cifar': 32,
    '^(residualattentionnet|densenet|googlenet|squeezenet)|rcnn_resnet': 224,
    '^inceptionv3': 299,
    '^ssd.*(resnet34|vgg16)': 300,
}
SMALL = 64


class Network(NamedTuple):
    """A network of the table: its name in GluonCV, its task, the module it comes from, height and width of its images.
    """
    name: str
    task: str
    family: str
    size: int

    @property
    def options(self) -> Dict[str, Any]:
        """What its constructor needs to make it without weights and for this size."""
        options: Dict[str, Any] = {'pretrained': False}
        if self.task != 'classification' and self.family != 'hrnet':
            options['pretrained_base'] = False
        if self.task == 'segmentation' and self.family != 'hrnet':
            options.update(base_size=self.size, crop_size=self.size)
        return options


def networks(registry: Mapping[str, Callable[..., Any]]) -> List[Network]:
    """The networks of the table among those of a registry {name: constructor}, by task, family and name."""
    chosen: Dict[str, Network] = {}
    for name in sorted(registry):
        family = registry[name].__module__.partition('model_zoo.')[2].partition('.')[0]
        task = _first(EXCEPTIONS, name, _first(TASKS, family, 'classification'))
        if task and _first(LEFT_OUT, name) is None:
            chosen.setdefault(DATA_SET.sub('', name), Network(name, task, family, _first(SIZES, name, SMALL)))
    tasks = ['classification', *TASKS.values()]
    return sorted(chosen.values(), key=lambda network: (tasks.index(network.task), network.family, network.name))


def _first(table: Mapping[str, Any], text: str, default: Any = None) -> Any:
    return next((value for pattern, value in table.items() if re.search(pattern, text)), default)
