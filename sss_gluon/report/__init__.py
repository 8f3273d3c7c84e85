"""Tables, figures and pages made from run folders: ``build.report`` compares runs, ``figures.draw`` shows one run.

Imports run one way: runs, settings and published; then summary; then runs_table, tables and plots; then page; then
build. Figures need only ``style``.
"""
