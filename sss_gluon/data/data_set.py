"""A data set: training, validation and test images, with what every step needs to know of them."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import SSSError
from .images import ImageSet, channel_statistics, check_labels, hold_out
from .records import RecordSet


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set. `DataSet.build` makes one from images in memory.

    Attributes
    ----------
    name : str
    train, test : ImageSet or RecordSet
    validation : ImageSet, RecordSet or None
        Held out of the training images, to choose settings.
    classes : int
        Labels are 0 .. classes-1.
    mean, std : numpy.ndarray
        float32, shape (C,): mean and standard deviation of the pixels of ``train`` per channel, in units of 0..255.
        ``std`` is 1 for a constant channel, so that it is always possible to divide by it.
    names : tuple of str
        Of the classes, by label; empty if they have none.
    unpadded : (int, int), optional
        Height and width of the images before zeros were put around them.
    """
    name: str
    train: Union[ImageSet, RecordSet]
    validation: Union[None, ImageSet, RecordSet]
    test: Union[ImageSet, RecordSet]
    classes: int
    mean: np.ndarray
    std: np.ndarray
    names: Tuple[str, ...] = ()
    unpadded: Optional[Tuple[int, ...]] = None

    @classmethod
    def build(cls, name: str, train: ImageSet, test: ImageSet, classes: int,
              validation: Union[None, int, ImageSet] = None, names: Sequence[str] = ()) -> DataSet:
        """Check the images, hold out validation images, and measure the pixels of the remaining training images.

        Parameters
        ----------
        validation : None, int or ImageSet
            A number of images to hold out of ``train`` (see `hold_out`), or separate images; None and 0: none.

        Raises
        ------
        SSSError
            Shapes differ, a label is outside 0 .. classes-1, or too many images are to be held out.
        """
        if isinstance(validation, ImageSet):
            held = validation
        elif validation is None or validation == 0:
            held = None
        else:
            train, held = hold_out(train, validation)
        for part, images in (('train', train), ('validation', held), ('test', test)):
            if images is None:
                continue
            if images.shape != train.shape:
                raise SSSError(f'{name}: {part} images have shape {images.shape}, train images '
                               f'{train.shape}; the shapes must be equal')
            check_labels(images.labels, classes, f'{name} {part}')
        mean, std = channel_statistics(train.images)
        return cls(name, train, held, test, classes, mean, std, tuple(names))

    @property
    def shape(self) -> Tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.train.shape

    @property
    def resized(self) -> Tuple[int, ...]:
        """(H, W) to which an image of another size is resized, or (the short side,): its centre is the input."""
        if isinstance(self.train, RecordSet):
            return (self.train.short_side,)
        return self.unpadded or self.shape[1:]

    def pad_to(self, size: int) -> DataSet:
        """Pad all images (`ImageSet.pad_to`); ``mean`` and ``std`` are those of the padded images."""
        train = self.train.pad_to(size)
        if train is self.train or not isinstance(train, ImageSet):      # all images have one size
            return self
        mean, std = channel_statistics(train.images)
        validation = None if self.validation is None else self.validation.pad_to(size)
        return replace(self, train=train, validation=validation, test=self.test.pad_to(size), mean=mean, std=std,
                       unpadded=self.resized)
