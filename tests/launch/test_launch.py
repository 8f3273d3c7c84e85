"""What is started, in which words, and how the end of each process is judged; nothing here trains."""
import re
import signal
import subprocess
import sys

import pytest

from sss_gluon import SSSError
from sss_gluon.launch import Job, launch, read_hosts
from sss_gluon.launch.processes import Node, Process
from sss_gluon.launch.run import _processes
from sss_gluon.launch.supervise import JobExit, supervise
from sss_gluon.train import Interrupted


def test_processes_of_a_machine(monkeypatch):
    monkeypatch.delenv('MXNET_KVSTORE_BIGARRAY_BOUND', raising=False)
    first = Node(0, 2, 2, 1, 'head', 9091).processes(['train', 'x.yaml'])
    second = Node(1, 2, 2, 1, 'head', 9091).processes(['train', 'x.yaml'])
    assert [process.name for process in first] == ['scheduler', 'server 0', 'worker 0', 'worker 1']
    assert [process.name for process in second] == ['server 1', 'worker 2', 'worker 3']
    for process in first + second:
        words = process.environment
        assert words['DMLC_NUM_WORKER'] == '4' and words['DMLC_NUM_SERVER'] == '2'
        assert words['DMLC_PS_ROOT_URI'] == 'head' and words['DMLC_PS_ROOT_PORT'] == '9091'
        assert words['MXNET_KVSTORE_BIGARRAY_BOUND'] == '131072'      # 65,536 numbers for each server
        assert words['DMLC_ROLE'] == process.name.split()[0]
        assert process.name.startswith('worker') == ('train' in process.command)
    assert [process.environment.get('SSS_GLUON_RANK') for process in second] == [None, '2', '3']


COMMANDS = {
    'ssh': (Job(workers=2, hosts=('ann', 'me@bob')),
            ['ssh -tt -o BatchMode=yes -o Server', ' ann cd ',
             '--node-rank 0 --num-nodes 2 --scheduler ann:9091 --workers 2 --servers 1 --logs', 'train x.yaml',
             ' MXNET_SAFE=1 ', ' OPENBLAS_CORETYPE=Haswell ']),
    'horovodrun': (Job(workers=2, hosts=('ann', 'bob'), backend='horovodrun'),
                   [' --gloo -np 4 -H ann:2,bob:2 --network-interfaces ib0 ', 'train x.yaml']),
    'horovodrun here': (Job(workers=2, backend='horovodrun'), [f' --gloo -np 2 {sys.executable}', 'train x.yaml']),
    'mpirun': (Job(hosts=('ann', 'bob'), backend='mpirun'),
               ['mpirun -np 2 ', '-H ann:1,bob:1', '-x MXNET_SAFE ', '-x OPENBLAS_CORETYPE ', 'btl_tcp_if_include ib0',
                'train x.yaml']),
    'mpirun here': (Job(workers=2, backend='mpirun'), ['mpirun -np 2', '--oversubscribe', 'train x.yaml']),
}


@pytest.mark.parametrize('case', COMMANDS)
def test_commands_of_other_launchers(case, tmp_path, monkeypatch):
    monkeypatch.setenv('DMLC_INTERFACE', 'ib0')
    monkeypatch.setenv('MXNET_SAFE', '1')
    monkeypatch.setenv('OPENBLAS_CORETYPE', 'Haswell')
    job, words = COMMANDS[case]
    processes, echo = _processes(['train', 'x.yaml'], job, tmp_path)
    said = ' '.join(processes[0].command)
    assert processes[0].name == echo and len(processes) == (len(job.hosts) if case == 'ssh' else 1)
    for word in words:
        assert word in said


def python(name, text, **environment):
    return Process(name, [sys.executable, '-c', text], environment)


FOREVER = 'import time; time.sleep(100)'
ENDS = {
    'all well': ({'scheduler': 'pass', 'worker 0': 'pass', 'worker 1': 'pass'}, None),
    'servers end first': ({'server 0': 'pass', 'worker 0': 'import time; time.sleep(1)'}, None),
    'a server that stays is ended': ({'server 0': FOREVER, 'worker 0': 'pass'}, None),
    'a worker fails': ({'server 0': FOREVER, 'worker 0': FOREVER, 'worker 1': "print('why'); raise SystemExit(3)"},
                       r'worker 1 ended with exit status 3 \(why\); its log is .*worker-1.log'),
    'horovodrun loses a worker': ({'workers': "print('Process name: 1\\nExit code: 137'); raise SystemExit(1)"},
                                  r'workers ended with exit status 1 \(worker 1 was ended by SIGKILL\); its log'),
    'horovodrun has one that fails': ({'workers': "print('Process name: 0\\nExit code: 2\\n'); raise SystemExit(1)"},
                                      r'workers ended with exit status 1 \(worker 0 ended with exit status 2\)'),
    'horovodrun loses a worker, and another says so first': (
        {'workers': "print('Process 0 exit with status code 1.\\nProcess 1 exit with status code 137.\\nProcess 2 exit "
                    "with status code 143.\\nProcess name: 0\\nExit code: 1'); raise SystemExit(1)"},
        r'status 1 \(worker 0 ended with exit status 1, worker 1 was ended by SIGKILL\); its log'),
    'horovodrun loses a machine': (
        {'workers': "print(*(f'Process {i} exit with status code 1.' for i in range(8)), sep='\\n'); exit(1)"},
        r'worker 2 ended with exit status 1 and 5 more\); its log'),
    'horovodrun reaches no host': ({'workers': "print('Process name: 1\\nExit code: 255'); raise SystemExit(1)"},
                                   r'workers ended with exit status 1 \(worker 1 ended with exit status 255\)'),
    'mpirun loses a worker': ({'workers': "print('mpirun noticed that process rank 1 with PID 0 on node vm exited on "
                                          "signal 9 (Killed).\\n---'); raise SystemExit(137)"},
                              r'workers ended with exit status 137 \(worker 1 was ended by SIGKILL\); its log'),
    'mpirun 5 has one that fails': ({'workers': "print('Process name: [prterun-vm-4@1,1]\\nExit code: 2'); exit(2)"},
                                    r'workers ended with exit status 2 \(worker 1 ended with exit status 2\); its log'),
    'mpirun has one that fails': ({'workers': "print('  Process name: [[1413,1],0]\\n  Exit code:    2\\n-'); exit(2)"},
                                  r'workers ended with exit status 2 \(worker 0 ended with exit status 2\); its log'),
    'a launcher over ssh': ({'workers of bob': "print('sss-gluon launch: server 1 was ended; its log is x; all other "
                                               "processes were ended. The same command continues'); exit(2)"},
                            r'^workers of bob ended with exit status 2 \(server 1 was ended; its log is x\); '
                            r'its log is \S*workers-of-bob.log$'),
    'a server is killed': ({'server 0': 'import os; os.kill(os.getpid(), 9)', 'worker 0': FOREVER},
                           'server 0 was ended by SIGKILL'),
    'a server ends before its time': ({'server 0': 'pass', 'worker 0': FOREVER},
                                      'server 0 ended with exit status 0'),
}


@pytest.mark.parametrize('case', ENDS)
def test_ends(case, tmp_path, monkeypatch):
    monkeypatch.setattr('sss_gluon.launch.supervise.PATIENCE', 1.5)
    scripts, expected = ENDS[case]
    lines = []
    ended = supervise([python(name, text) for name, text in scripts.items()], tmp_path, lines.append)
    if expected is None:
        assert ended == JobExit(None)
    else:
        assert re.search(expected, ended.problem) and ended.signal_number is None
    assert len(lines) == len(scripts) and all(sys.executable in line for line in lines)


def test_what_an_earlier_attempt_said_is_not_said_again(tmp_path):
    (tmp_path / 'workers.log').write_text('Process name: 1\nExit code: 137\n')
    ended = supervise([python('workers', 'raise SystemExit(3)')], tmp_path, lambda line: None)
    assert ended.problem.startswith('workers ended with exit status 3; its log')


def test_a_server_is_not_waited_for_where_the_only_worker_failed(tmp_path, monkeypatch):
    monkeypatch.setattr('sss_gluon.launch.supervise.PATIENCE', 10 ** 6)
    processes = [python('server 1', 'import time; time.sleep(10000)'), python('worker 1', 'raise SystemExit(3)')]
    ended = supervise(processes, tmp_path, lambda line: None)
    assert ended.problem.startswith('worker 1 ended with exit status 3')


def test_output_of_the_first_worker_is_shown_and_kept(tmp_path, capfd):
    supervise([python('worker 0', "print('one')"), python('worker 1', "print('two')")], tmp_path, lambda line: None,
              'worker 0')
    assert capfd.readouterr().out == 'one\n'
    assert (tmp_path / 'worker-0.log').read_text() == 'one\n' and (tmp_path / 'worker-1.log').read_text() == 'two\n'


SAVES = '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
print('ready', flush=True)
if {first}:
    os.kill(os.getppid(), signal.SIGINT)
time.sleep(100)
'''


def test_signals_are_passed_on_to_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr('sss_gluon.launch.supervise.PATIENCE', 1.5)
    ended = supervise([python('server 0', FOREVER), python('worker 0', SAVES.format(first=True)),
                         python('worker 1', SAVES.format(first=False))], tmp_path, lambda line: None)
    assert ended == JobExit(None, 2)


LAUNCHER = '''
import os, signal, time
def stop(number, frame):
    print({said!r}, flush=True)
    os._exit({status})
signal.signal({number}, stop)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(100)
'''
STOPPED = {
    'horovodrun': (signal.SIGTERM, 'Process name: 1\nExit code: 143\n', 1, None),
    'horovodrun is impatient': (signal.SIGTERM, 'Process name: 1\nExit code: 137\n', 1,
                                'workers ended with exit status 1 (worker 1 was ended by SIGKILL); its log'),
    'horovodrun over ssh': (
        signal.SIGTERM, 'Process 1 exit with status code 255.\nProcess 0 exit with status code 143.\n'
        'Process name: 1\nExit code: 255\n', 1, None),
    'horovodrun over ssh, and a worker here did not save': (
        signal.SIGTERM, 'Process 1 exit with status code 255.\nProcess 0 exit with status code 137.\n'
        'Process name: 1\nExit code: 255\n', 1,
        'workers ended with exit status 1 (worker 1 ended with exit status 255, worker 0 was ended by SIGKILL); its'),
    'horovodrun and its group': (signal.SIGTERM, 'Process name: 0\nExit code: -15\n', 1, None),
    'mpirun': (signal.SIGUSR1, 'Process name: [[1,1],1]\n  Exit code:    138\n---', 138, None),
}


@pytest.mark.parametrize('case', STOPPED)
def test_workers_of_another_launcher_are_stopped(case, tmp_path):
    number, said, status, problem = STOPPED[case]
    script = LAUNCHER.format(said=said, status=status, number=int(number))
    ended = supervise([python('workers', script)._replace(signal_number=number)], tmp_path, lambda line: None,
                        'workers')
    assert ended.signal_number == signal.SIGTERM
    assert ended.problem is None if problem is None else ended.problem.startswith(problem)


SLOW = '''
import signal, sys, time
def save(number, frame):
    time.sleep(0.3)
    open(sys.argv[1], 'w').close()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print(flush=True)
time.sleep(100)
'''


@pytest.mark.parametrize('shell', ['exec {}', '{} & wait $!'])     # as bash runs a single command, and as dash does
def test_what_horovodrun_stops_has_time_to_save(shell, tmp_path):
    pytest.importorskip('horovod', reason='Horovod is not installed: bash scripts/cluster/install_horovod.sh')
    from sss_gluon.launch.horovodrun import end_shell_and_children
    (tmp_path / 'slow.py').write_text(SLOW)
    command = shell.format(f'{sys.executable} {tmp_path}/slow.py {tmp_path}/saved')
    with subprocess.Popen(command, shell=True, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        end_shell_and_children(process.pid)
        assert process.wait(10) == 143 and (tmp_path / 'saved').exists()


DEAF = '''
import os, signal, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(1)
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
time.sleep(100)
'''


def test_mpirun_that_lost_a_signal_gets_it_again(tmp_path, monkeypatch):
    monkeypatch.setattr('sss_gluon.launch.supervise.AGAIN', 0.5)
    ended = supervise([python('workers', DEAF)._replace(signal_number=signal.SIGUSR1)], tmp_path, lambda line: None)
    assert ended == JobExit(None, signal.SIGTERM)


HANG_UP = 'import os, signal, time; os.kill(os.getppid(), signal.SIGHUP); time.sleep(0.5)'


@pytest.mark.parametrize('ignored', [True, False])
def test_sighup_that_is_ignored_stays_ignored(ignored, tmp_path):
    """As under nohup, and as for a sweep."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        worker = python('worker 0', HANG_UP + '; time.sleep(100)' * (not ignored))
        ended = supervise([worker], tmp_path, lambda line: None)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ended == JobExit(None, None if ignored else signal.SIGHUP)


WRONG = {
    'another verb': (['prune', 'run'], Job(), 'launch is for train'),
    'nothing': ([], Job(), 'launch is for train'),
    'no workers': (['train', 'x'], Job(workers=0), '--workers 0 must be at least 1'),
    'no nodes': (['train', 'x'], Job(node_rank=0, num_nodes=0), '--num-nodes 0 must be at least 1'),
    'a rank without a number of nodes': (['train', 'x'], Job(node_rank=0), '--node-rank and --num-nodes go together'),
    'a number of nodes without a rank': (['train', 'x'], Job(num_nodes=2), '--node-rank and --num-nodes go together'),
    'a node too many': (['train', 'x'], Job(node_rank=2, num_nodes=2, scheduler='a:1'), '--node-rank 2 .* 0 to 1'),
    'a negative rank': (['train', 'x'], Job(node_rank=-1, num_nodes=2, scheduler='a:1'), '--node-rank -1 .* 0 to 1'),
    'a node and hosts': (['train', 'x'], Job(node_rank=0, num_nodes=1, hosts=('a',)), '--node-rank .* --hosts'),
    'no scheduler': (['train', 'x'], Job(node_rank=0, num_nodes=2), '--num-nodes 2 needs --scheduler HOST:PORT'),
    'half a scheduler': (['train', 'x'], Job(node_rank=0, num_nodes=2, scheduler='a'), '--scheduler a .*HOST:PORT'),
    'a node for horovodrun': (['train', 'x'], Job(node_rank=0, num_nodes=1, backend='horovodrun'),
                              '--node-rank is for the backend ps-lite; horovodrun .* --hosts'),
    'a scheduler for mpirun': (['train', 'x'], Job(scheduler='a:1', backend='mpirun'), '--scheduler is for .*ps-lite'),
    'no Horovod': (['train', 'x'], Job(backend='horovodrun'), 'Horovod is not installed; `bash scripts/cluster'),
    'no mpirun': (['train', 'x'], Job(backend='mpirun'), 'mpirun is not installed'),
}


@pytest.mark.parametrize('case', WRONG)
def test_wrong_jobs(case, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setitem(sys.modules, 'horovod', None)
    arguments, job, words = WRONG[case]
    with pytest.raises(SSSError, match=words):
        launch(arguments, job)


HOSTS = {'a\n\n# b\nme@c-1.example # d\n': ('a', 'me@c-1.example')}
WRONG_HOSTS = {'': 'names no host', '# a\n': 'names no host', 'a b\n': "'a b' is not the name", '-oX\n': "'-oX' is not"}


@pytest.mark.parametrize('text', [*HOSTS, *WRONG_HOSTS])
def test_hosts(text, tmp_path):
    (tmp_path / 'hosts').write_text(text)
    if text in HOSTS:
        assert read_hosts(tmp_path / 'hosts') == HOSTS[text]
        return
    with pytest.raises(SSSError, match=WRONG_HOSTS[text]):
        read_hosts(tmp_path / 'hosts')


def test_a_stopped_job_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr('sss_gluon.launch.run.supervise', lambda *args: JobExit(None, 15))
    with pytest.raises(Interrupted, match='the same command continues') as caught:
        launch(['train', 'x'], Job(logs=tmp_path))
    assert caught.value.signal_number == 15
