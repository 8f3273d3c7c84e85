import numpy as np
import pytest
from PIL import Image

from sss_gluon.data import load
from sss_gluon.errors import SSSError


def save(path, pixels, **options):
    """An image file of uint8 (H, W) or (3, H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    Image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).save(path, **options)


@pytest.fixture
def tree(tmp_path, digit_images):
    """train/ with 3 images of class a and 2 of class b, test/ with 1 and 2: digits, 28 x 28, in order."""
    images = iter(digit_images[0])
    for part, a, b in (('train', 3, 2), ('test', 1, 2)):
        for name, count in (('b', b), ('a', a)):
            for i in range(count):
                save(tmp_path / part / name / f'{i}.png', next(images))
    return tmp_path


def test_gray_images(tree, digit_images):
    (tree / 'train' / '.cache').mkdir()
    (tree / 'train' / 'a' / '.DS_Store').write_bytes(b'x')
    data = load('folder', root=tree)
    assert (data.name, data.classes, data.shape, data.validation) == ('folder', 2, (1, 28, 28), None)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1] and data.test.labels.tolist() == [0, 1, 1]
    assert (data.train.images[:, 0] == digit_images[0][[2, 3, 4, 0, 1]]).all()      # class a was written last
    assert (data.test.images[:, 0] == digit_images[0][[7, 5, 6]]).all()


def test_one_colour_image_makes_all_rgb(tree, digit_images, colour_images):
    colour = colour_images[0][0][:, 2:30, 2:30]
    save(tree / 'test' / 'b' / 'colour.bmp', colour)
    data = load('folder', root=tree)
    assert data.shape == (3, 28, 28)
    assert (data.train.images == digit_images[0][[2, 3, 4, 0, 1], None]).all()
    assert (data.test.images[-1] == colour).all()
    assert data.mean.shape == (3,)


def test_resize(tree, colour_images):
    """Half the size: the centre of a uniform area keeps its value, and so does the average."""
    pixels = np.zeros((28, 56), np.uint8)
    pixels[:, 28:] = 200
    save(tree / 'train' / 'a' / '9.png', pixels)
    with pytest.raises(SSSError, match=r'a/9.png: is 56 x 28 pixels but .*a/0.png is 28 x 28; .*image_size=N'):
        load('folder', root=tree)
    data = load('folder', root=tree, size=14)
    assert data.shape == (1, 14, 14) and data.train.images.flags.c_contiguous
    resized = data.train.images[3, 0]
    assert (resized[:, :5] == 0).all() and (resized[:, -5:] == 200).all()
    assert resized.mean() == pytest.approx(100, abs=1)


def test_jpeg(tree, digit_images):
    save(tree / 'train' / 'a' / '9.JPG', digit_images[0][10], quality=95)
    image = load('folder', root=tree).train.images[3, 0].astype(int)
    assert abs(image - digit_images[0][10]).mean() < 3


def test_sixteen_bits_alpha_and_palette(tree, digit_images):
    digit = digit_images[0][11]
    folder = tree / 'train' / 'a'
    Image.fromarray(digit.astype(np.uint16) * 256 + 17).save(folder / '7.png')
    Image.merge('LA', [Image.fromarray(digit), Image.fromarray(255 - digit)]).save(folder / '8.png')
    data = load('folder', root=tree)
    assert data.shape == (1, 28, 28)
    assert (data.train.images[3:5, 0] == digit).all()
    Image.fromarray(digit).convert('P').save(folder / '9.png')
    data = load('folder', root=tree)
    assert data.shape == (3, 28, 28)
    assert (data.train.images[3:6] == digit).all()


def test_orientation(tree, digit_images):
    """EXIF orientation 6: the stored image is displayed rotated by 90 degrees clockwise."""
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = np.zeros((14, 28), np.uint8)
    stored[:, :5] = 255                           # left edge when stored, top edge when shown
    for part in ('train', 'test'):
        for path in (tree / part).glob('*/*.png'):
            save(path, stored, exif=turned)
    data = load('folder', root=tree)
    assert data.shape == (1, 28, 14)
    assert (data.train.images[:, 0, :5] == 255).all() and (data.train.images[:, 0, 5:] == 0).all()


def test_val_stands_for_test(tree):
    (tree / 'test').rename(tree / 'val')
    assert load('folder', root=tree, validation=2).test.labels.tolist() == [0, 1, 1]


def test_val_beside_test_is_validation(tree, digit_images):
    save(tree / 'val' / 'a' / '0.png', digit_images[0][20])
    save(tree / 'val' / 'b' / '0.png', digit_images[0][21])
    data = load('folder', root=tree)
    assert (data.validation.images[:, 0] == digit_images[0][20:22]).all()
    assert (len(data.train), len(data.test)) == (5, 3)
    with pytest.raises(SSSError, match='leave out validation=1'):
        load('folder', root=tree, validation=1)


def test_hold_out(tree):
    data = load('folder', root=tree, validation=2)
    assert (len(data.train), len(data.validation)) == (3, 2)


EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n'


@pytest.mark.parametrize('name, content', [('notes.txt', b'not an image'), ('empty.png', b''),
                                           ('page.eps', EPS), ('page.png', EPS), ('short.png', None)])
def test_file_that_is_no_image(tree, name, content, monkeypatch):
    monkeypatch.setattr('PIL.ImageFile.LOAD_TRUNCATED_IMAGES', True)     # as GluonCV sets it
    path = tree / 'train' / 'b' / name
    path.write_bytes((tree / 'train' / 'a' / '0.png').read_bytes()[:-60] if content is None else content)
    with pytest.raises(SSSError, match=rf'b/{name}: .*image'):
        load('folder', root=tree)


def test_format_that_is_not_listed(tree, digit_images):
    """Pillow would decode it, but only listed formats are tried, so that no format that runs a program is."""
    save(tree / 'train' / 'b' / 'digit.pcx', digit_images[0][0])
    with pytest.raises(SSSError, match='b/digit.pcx: .*image'):
        load('folder', root=tree)


def test_folder_among_the_images(tree):
    (tree / 'train' / 'b' / 'more').mkdir()
    with pytest.raises(SSSError, match='b/more: .*folder'):
        load('folder', root=tree)


def test_classes_differ(tree, digit_images):
    save(tree / 'test' / 'c' / '0.png', digit_images[0][0])
    with pytest.raises(SSSError, match='test: must have the same class folders .*only one of them has c'):
        load('folder', root=tree)


def test_empty_class(tree):
    (tree / 'train' / 'c').mkdir()
    with pytest.raises(SSSError, match='train/c: is empty'):
        load('folder', root=tree)


def test_no_classes(tmp_path):
    for part in ('train', 'test'):
        (tmp_path / part).mkdir()
    with pytest.raises(SSSError, match='no folder of images per class'):
        load('folder', root=tmp_path)


@pytest.mark.parametrize('parts', [(), ('train',), ('test', 'val')])
def test_parts_missing(tmp_path, parts):
    for part in parts:
        (tmp_path / part).mkdir()
    with pytest.raises(SSSError, match=f'{tmp_path}: must hold the folders train/ and test/'):
        load('folder', root=tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(SSSError, match=f'there is no folder {tmp_path}/nowhere'):
        load('folder', root=tmp_path / 'nowhere')


@pytest.mark.parametrize('setting, message', [({}, 'name the folder'), ({'root': '.', 'size': 0}, 'size=0')])
def test_settings(setting, message):
    with pytest.raises(SSSError, match=message):
        load('folder', **setting)
