"""The slow tests that `scripts/test.sh` runs without --full: each stands for a claim. Beginnings of their names."""

CLAIMS = (
    # the library: a real training, exact zeros, removal, export, reload
    'test_readme.py::test_library_example',
    # the command line: train, prune, evaluate and export as processes; ONNX and INT8
    'test_cli.py::test_train_prints_a_line_an_epoch_and_leaves_a_run',
    'test_cli.py::test_prune_and_evaluate_agree',
    'test_cli.py::test_an_exported_network_is_evaluated_and_counted',
    'test_cli.py::test_export_writes_what_evaluate_reads',
    # a killed run continues bit for bit
    'train/test_resume.py::test_continued_run_equals_an_uninterrupted_one[SIGKILL between checkpoints]',
    # two workers give the run of one
    'launch/test_workers.py::test_workers_give_the_run_of_one[2-settings1]',
    # a sweep over every method, and its report
    'test_scripts.py::test_every_script_runs_with_smoke_and_writes_its_report[comparison_cifar]',
    # ImageNet's format, at 224 x 224: packed, trained, stopped, continued, cut and evaluated
    'test_imagenet.py::test_the_whole_way[resnet50]',
)
