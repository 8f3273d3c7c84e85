"""Tests that share a process, because they share long fixtures or must not run side by side: beginnings of their names.

pytest-xdist's own groups (``xdist_group``) are lost under pytest 9.2, which no longer lets it change the ids of tests.
"""

GROUPS = {
    # jobs have the machine one after the other
    'launch': ('launch/test_hosts.py', 'launch/test_mixed_workers.py', 'launch/test_own_loop.py',
               'launch/test_workers.py', 'budget/test_same_structure.py::test_workers_are'),
    'chain': ('test_cli.py', 'test_gluoncv_chain.py'),
    'resume': ('train/test_resume.py',),                    # with the run that nothing interrupts
    'resumed budget': ('budget/test_resumed.py',),
    'bfloat16': ('train/test_bfloat16.py', 'budget/test_same_structure.py::test_bfloat16'),
    'statistics': ('train/test_statistics.py',),
    'counts': ('report/test_counts.py',),
    'page': ('report/test_page.py',),
    'block': ('graph/test_block.py',),
    'gamma': ('methods/test_gamma_range.py',),
    'configs': ('test_configs.py',),                        # plans are read once
}


def group(nodeid):
    """Name of the group of a test, or the test itself."""
    name = nodeid.partition('/')[2]
    return next((key for key, beginnings in GROUPS.items() if name.startswith(beginnings)), nodeid)


def scheduler(config, log):
    """The scheduler of pytest-xdist that sends each group to one process, the largest first."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

    return Groups(config, log)
