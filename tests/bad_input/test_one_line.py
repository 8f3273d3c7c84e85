"""Whatever a user can get wrong: one clear line, an exit status, no traceback, and nothing half-written.

A row says what is prepared on a desk with finished runs, the command line, what its one line must name (the key,
the file, the bound), which files may differ afterwards (all others are compared byte by byte), and what stdout names,
which is empty otherwise. The wording of some dozen of them is in wording.txt.
"""
import os
from pathlib import Path

import pytest
from checks import call_row, differing, names, snapshot
from damaged_files import DATA, EXPORTED, RUNS, STRUCTURES
from wrong_settings import COUNT, FILES, FIND, KEYS

from sss_gluon.cli import main

WORDING = Path(__file__).with_name('wording.txt')     # [group-row] message

TABLE = {'key': KEYS, 'file': FILES, 'run': RUNS, 'structure': STRUCTURES, 'exported': EXPORTED, 'count': COUNT,
         'gamma': FIND, 'data': DATA}
ROWS = [pytest.param(row, id=f'{group}-{row.name[:60].encode("ascii", "replace").decode()}')
        for group, rows in TABLE.items() for row in rows]


@pytest.mark.parametrize('row', ROWS)
def test_one_line_and_nothing_half_written(row, desk, capfd):
    for prepare in row.prepare:
        prepare(desk)
    before = snapshot(desk)
    capfd.readouterr()
    status = call_row(row)
    out, err = capfd.readouterr()
    assert status == 2, (status, out, err)
    assert err.count('\n') == 1 and err.endswith('\n'), err
    assert err.startswith(f'sss-gluon {row.command.replace("|", " ").split()[0]}: ') and names(err, row.words)
    assert '.cc:' not in err and '.h:' not in err and 'Traceback' not in err        # of MXNet's C++
    assert names(out, row.out) if row.out else out == ''
    assert [path for path in differing(before, desk) if not any(Path(path).match(p) for p in row.changed)] == []


def test_wording(desk, capfd):
    """Whole sentences, to be read aloud: WRITE_WORDING=1 writes the file again."""
    rows, said = {row.id: row.values[0] for row in ROWS}, []
    listed = [line.partition('] ')[0][1:] for line in WORDING.read_text('utf-8').splitlines()]
    for name in listed:
        assert not rows[name].prepare and call_row(rows[name]) == 2
        said.append(f'[{name}] {capfd.readouterr().err}')
    if os.environ.get('WRITE_WORDING'):
        WORDING.write_text(''.join(said), 'utf-8')
    assert ''.join(said) == WORDING.read_text('utf-8')


def test_a_mapping_of_the_base_is_taken_back(desk, capsys):
    """{} on the command line is the whole mapping, not nothing to add."""
    assert main('train small.yaml run=new model_options={} epochs=1 batch_size=1000'.split()) == 0
    assert '/9 blocks  ' in capsys.readouterr().out
