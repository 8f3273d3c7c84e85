"""Makes the table of GluonCV's networks: factors added, half of the MACs removed, outputs compared, exported to ONNX.

    python scripts/zoo/zoo.py                   # continue where it stopped: rows that zoo.csv has are not made again
    python scripts/zoo/zoo.py --only '^resnet'  # these, again
    python scripts/zoo/zoo.py --quick --folder /tmp/zoo     # one small network of each of ten kinds, in two minutes

Each network has a process of its own, so that one that runs out of memory or time is a row like the others.
"""
from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import table
from names import Network, networks

HERE = Path(__file__).parent
QUICK = re.compile('^(cifar_resnet20_v2|cifar_resnext29_32x4d|mobilenetv2_0.25|mobilenetv3_small|resnest14|'
                   'se_resnet18_v1|shufflenet_v2|squeezenet1.1|resnet18_v1b|ssd_300_mobilenet0.25_coco|'
                   'mobile_pose_mobilenet1.0|hrnet_w18_small_v1_s)$')


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--only', type=re.compile, metavar='REGEX', help='make the rows of these networks, again')
    parser.add_argument('--quick', action='store_true', help='a dozen small networks of different families')
    parser.add_argument('--folder', type=Path, default=HERE, help='of zoo.csv and README.md; default: that of zoo.py')
    parser.add_argument('--seconds', type=int, default=900, help='time limit of a network')
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    path, page = options.folder / 'zoo.csv', options.folder / 'README.md'
    rows = {row['name']: row for row in table.read(path)}
    every = registered()
    chosen = [network for network in every
              if (options.only.search(network.name) if options.only else network.name not in rows)
              and (QUICK.match(network.name) if options.quick else True)]
    for number, network in enumerate(chosen, 1):
        row = rows[network.name] = apart(network, options.seconds)
        print(f"{number}/{len(chosen)} {network.name}: {row['reason'] or 'done'}, {row['seconds']} s", flush=True)
        table.write(path, [rows[each.name] for each in every if each.name in rows])
    left = list(rows.values())
    text = table.summary([rows[each.name] for each in every if each.name in rows])
    if page.exists():
        table.put(page, text)
    print(text)
    return int(not all(map(table.is_done, left)) if options.quick else 0)


def registered() -> List[Network]:
    """The networks of the table that GluonCV has."""
    import sss_gluon  # noqa: F401  (before MXNet)

    # isort: split
    from gluoncv.model_zoo import model_zoo
    return networks(model_zoo._models)


def apart(network: Network, seconds: int) -> Dict[str, Any]:
    """The row of a network, made in a process of its own."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['sss_gluon', 'gluoncv.model_zoo', 'onnx', 'onnxruntime'])       # imported once
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(network, theirs))
    process.start()
    theirs.close()
    row = dict.fromkeys(table.COLUMNS, '')
    row.update(network._asdict(), seconds=seconds, reason=f'more than {seconds} s')
    try:
        if mine.poll(seconds):
            row = mine.recv()
    except EOFError:
        process.join()
        row['reason'] = f'the process ended with status {process.exitcode}: out of memory?'
    process.kill()
    process.join()
    return row


def _send(network: Network, connection) -> None:
    from measure import measure
    connection.send(measure(network))


if __name__ == '__main__':
    sys.exit(main())
