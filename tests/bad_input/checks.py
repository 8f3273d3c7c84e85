"""What a command said, which files it changed, and commands in processes of their own."""
import os
import subprocess
import sys

from desk import ROOT

from sss_gluon.cli import main


def snapshot(folder):
    """{path: content} of all there is in a folder, except locks, which stay on purpose, and Python's own files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.is_symlink()
            for path in folder.rglob('*') if path.name != '.lock' and '__pycache__' not in path.parts}


def differing(before, folder):
    after = snapshot(folder)
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def call_row(row):
    return main(row.command.split('|' if '|' in row.command else None))


def names(text, words):
    return all(part in text for part in words.split('…'))


def nothing_temporary(folder):
    return [str(path) for path in folder.rglob('.*') if path.name != '.lock'] == []


def one_line(err, words, verb):
    assert err.count('\n') == 1 and err.startswith(f'sss-gluon {verb}: ') and names(err, words), err


def environment(unbuffered=''):
    return dict(os.environ, OMP_NUM_THREADS='1', PYTHONUNBUFFERED=unbuffered,
                PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH', '')])))


def call(command, start=('-m', 'sss_gluon.cli'), folder=None, **keywords):
    return subprocess.run([sys.executable, *start, *command.split()], cwd=folder, env=environment(), text=True,
                          capture_output=True, timeout=300, **keywords)
