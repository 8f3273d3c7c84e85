"""cifar_resnet20 in PyTorch, one step on request. Run by an interpreter that has torch, but not this package.

The argument is JSON: ``start`` (an .npz with the parameters of the Gluon network under their structural names, images
and labels), ``threads``, ``rate``, ``momentum``, ``decay``. Depths and widths are read from the shapes.
"""
import json
import re
import sys
import time

import numpy as np
import torch
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride, project):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if project else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(self.relu(self.norm2(y)))
        return y + shortcut


class ResNet(nn.Module):
    def __init__(self, in_channels, stem_width, depths, widths, classes):
        super().__init__()
        self.stem = nn.Conv2d(in_channels, stem_width, 3, 1, 1, bias=False)
        channels = stem_width
        self.stages = len(depths)
        for i, (depth, width) in enumerate(zip(depths, widths), 1):
            blocks = []
            for j in range(depth):
                blocks.append(BasicBlock(channels, width, 2 if i > 1 and j == 0 else 1, j == 0))
                channels = width
            setattr(self, f'stage{i}', nn.Sequential(*blocks))
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.output = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.stem(x)
        for i in range(self.stages):
            x = getattr(self, f'stage{i + 1}')(x)
        return self.output(self.flatten(self.pool(self.relu(self.norm(x)))))


def load(arrays):
    """The network with the shapes and values of the Gluon parameters."""
    depths, widths = [], []
    while f'stage{len(depths) + 1}.0.conv2.weight' in arrays:
        stage = f'stage{len(depths) + 1}'
        depths.append(len({name.split('.')[1] for name in arrays if name.startswith(stage + '.')}))
        widths.append(arrays[f'{stage}.0.conv2.weight'].shape[0])
    stem, output = arrays['stem.weight'].shape, arrays['output.weight'].shape
    net = ResNet(stem[1], stem[0], depths, widths, output[0])
    values = {re.sub('gamma$', 'weight', re.sub('beta$', 'bias', name)): torch.tensor(array)
              for name, array in arrays.items()}
    missing, unexpected = net.load_state_dict(values, strict=False)
    if unexpected or not all(name.endswith('num_batches_tracked') for name in missing):
        raise SystemExit(f'the networks differ: {missing[:1]} missing, {unexpected[:1]} unexpected')
    return net


def main(start, threads, rate, momentum, decay):
    torch.set_num_threads(threads)
    with np.load(start, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    images = torch.tensor(arrays.pop('images')).to(memory_format=torch.channels_last)
    labels = torch.tensor(arrays.pop('labels')).long()
    net = load(arrays).to(memory_format=torch.channels_last).train()
    decayed = [p for name, p in net.named_parameters() if not name.endswith('bias')]
    others = [p for name, p in net.named_parameters() if name.endswith('bias')]
    optimizer = torch.optim.SGD([dict(params=decayed, weight_decay=decay), dict(params=others, weight_decay=0.0)],
                                lr=rate, momentum=momentum, nesterov=True, fused=True)
    loss_function = nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    print(json.dumps(dict(version=torch.__version__, parameters=sum(p.numel() for p in net.parameters()))), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        loss = step()
        print(json.dumps(dict(seconds=time.perf_counter() - begin, loss=loss.item())), flush=True)


if __name__ == '__main__':
    main(**json.loads(sys.argv[1]))
