"""The choice of boxes in ONNX. MXNet's exporter lets boxes of one class suppress those of another."""
from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import numpy as np

if TYPE_CHECKING:
    from .onnx_operators import Writer

NEVER = float(np.finfo('float32').min)      # a score below every threshold


def box_nms(w: Writer) -> Optional[str]:
    """Non-maximum suppression as MXNet has it: rows of one box each, by falling score, then rows of -1.

    Of the ``topk`` rows with the best scores above ``valid_thresh``, without those of the background, one goes if it
    overlaps with a better one that stays and, unless ``force_suppress``, is of the same class.
    """
    if w.get('in_format', 'corner') != w.get('out_format', 'corner'):
        return None
    count, width = w.shape[-2:]
    most = min(count, w.get('topk', -1)) if w.get('topk', -1) > 0 else count
    start, score, kind = w.get('coord_start', 2), w.get('score_index', 1), w.get('id_index', -1)
    rows = w('Reshape', w.x, [-1, count, width])
    scores = _column(w, rows, score)
    if kind >= 0:
        scores = w('Where', w('Equal', _column(w, rows, kind), float(w.get('background_id', -1))), NEVER, scores)
    best = _order(w, scores, most, largest=1)
    rows, scores = _gathered(w, rows, best, width), w('Unsqueeze', w('GatherElements', scores, best, axis=1), [1])
    if kind >= 0 and not w.get('force_suppress', False):    # scores by class, of which -1 is the first
        classes = w('Max', w('Cast', w('Add', _column(w, rows, kind), 1.0), to=w.onnx.TensorProto.INT64), [0])
        depth = w('Add', w('ReduceMax', classes, keepdims=0), [1])
        own = w('OneHot', classes, depth, [0, 1], axis=1)
        scores = w('Where', w('Cast', own, to=w.onnx.TensorProto.BOOL), scores, NEVER)
    chosen = w('NonMaxSuppression', w('Slice', rows, [start], [start + 4], [2]), scores, [most],
               np.array([w.get('overlap_thresh', 0.5)]), np.array([w.get('valid_thresh', 0.0)]),
               center_point_box=int(w.get('in_format', 'corner') == 'center'))
    places = w('Slice', chosen, [0], [3], [1], [2])             # (image, class, row) to (image, row)
    ones = w('Add', w('Mul', w('Squeeze', w('Slice', chosen, [0], [1], [1]), [1]), [0]), [1])
    stays = w('ScatterND', w('Mul', best, [0]), places, ones)
    last = _order(w, w('Add', w('Mul', stays, [-most]), list(range(most))), most, largest=0)
    rows = w('Where', w('Cast', w('Unsqueeze', stays, [2]), to=w.onnx.TensorProto.BOOL), rows, -1.0)
    rows = w('Pad', _gathered(w, rows, last, width), [0, 0, 0, 0, count - most, 0], -1.0)
    w.name += '0'
    return w('Reshape', rows, list(w.target))


def _column(w: Writer, rows: str, index: int) -> str:
    return w('Squeeze', w('Slice', rows, [index], [index + 1], [2]), [2])


def _order(w: Writer, values: str, count: int, largest: int) -> str:
    """(N, count): which of the values (N, boxes) are the largest or smallest, the most extreme first."""
    w('TopK', values, [count], axis=1, largest=largest)
    w.nodes[-1].output.append(f'{w.nodes[-1].name}_indices')
    return w.nodes[-1].output[1]


def _gathered(w: Writer, rows: str, order: str, width: int) -> str:
    return w('GatherElements', rows, w('Tile', w('Unsqueeze', order, [2]), [1, 1, width]), axis=1)
