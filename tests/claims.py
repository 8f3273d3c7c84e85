"""What `scripts/test.sh` runs without --full where the marks of tests alone do not say it: beginnings of names."""

# Slow tests that it runs, because each stands for a claim of the README
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

# Cases that it leaves out: each takes 0.6 s or more, and another case of the same test, or a claim, shows the same
REPEATS = (
    'budget/test_same_training.py::test_every_step_is_that_of_the_network_that_holds_zeros[ResNet-50]',
    'budget/test_same_training.py::test_every_step_is_that_of_the_network_that_holds_zeros[ResNeXt-164]',
    'budget/test_shrink.py::test_a_loop_ends_in_a_network_of_the_size_asked_for[cifar_vgg16',
    'data/test_cifar.py::test_full_size_archive[cifar100]',
    'graph/test_block.py::test_load[vgg16]',
    'graph/test_compact.py::test_everything_is_removed[vgg16]',
    'graph/test_compact.py::test_nothing_is_removed[vgg16]',
    'launch/test_workers.py::test_a_worker_that_does_not_hear_of_the_end_ends[0-3]',
    *(f'methods/test_methods.py::test_prunes_fine_tunes_compacts[{name} neuron]'
      for name in ('apoz', 'ista', 'lasso', 'random', 'slimming', 'taylor', 'uniform')),
    'methods/test_gamma_range.py::test_gradients_of_all_parts_of_a_batch_count[settings1]',
    'models/test_models.py::test_factors_of_one_change_nothing[vgg16]',
    *(f'{test}[{name}]' for name in ('resnet26', 'resnet32', 'resnet41')
      for test in ('test_readme.py::test_table_of_structures',
                   'test_structures.py::test_sizes_of_the_papers_structures')),
    'train/test_loss_scale.py::test_a_run_continues_with_its_loss_scale_bit_for_bit',
)
