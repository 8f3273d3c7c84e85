"""Which settings of a run may change when it is continued."""
from __future__ import annotations

from ..errors import SSSError
from .checkpoint import checkpoints
from .config import Config, decay_epochs, differences
from .run_folder import RunFolder


def check_resumable(run: RunFolder, config: Config, log) -> None:
    """A folder with checkpoints can only be resumed with the settings that it was started with."""
    if run.config_file.exists():
        try:
            run.config()
        except SSSError as error:
            raise SSSError(f"{run} holds a config.yaml that is not a run's; name another run= ({error})") from error
    if checkpoints(run.checkpoints) and run.config_file.exists():
        old = run.config()
        why = why_not_longer(old, config)
        changed = [d for d in differences(old, config) if why or not _longer(d, old, config)]
        if changed:
            raise SSSError(f'{run} was begun with other settings ({"; ".join(changed)}){why}; name another '
                           f'run=, or delete the folder')
        if old.epochs != config.epochs:
            log(f'{run}: epochs raised from {old.epochs} to {config.epochs}')


def _longer(difference: str, old: Config, new: Config) -> bool:
    """Whether only the number of epochs grows, or shares of epochs are written as the epochs that they were."""
    return difference.startswith('epochs:') and new.epochs > old.epochs \
        or difference.startswith('lr_decay_epochs:') and decay_epochs(new) == decay_epochs(old)


def why_not_longer(old: Config, new: Config) -> str:
    """Why more epochs would change the rates of those already trained, and the way out; '' if they would not."""
    if new.epochs <= old.epochs or new.lr_mode != old.lr_mode:
        return ''
    if new.lr_mode == 'cosine':
        return ': lr_mode=cosine reaches 0 with the last epoch, so the run cannot be extended'
    if new.lr_mode == 'step' and decay_epochs(new) != decay_epochs(old):
        same = ','.join(map(str, decay_epochs(old)))
        return f': shares of epochs move with their number; to extend the run, add lr_decay_epochs=[{same}]'
    return ''
