"""Sequence parameter sets: crafted ones field by field, and real ones against libavcodec."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from proxy.media.nal import BitstreamError, split_annexb
from proxy.media.parameters import (
    Colour,
    PictureFormat,
    parse_h264_sps,
    parse_hevc_sps,
)
from tests.media import helpers
from tests.media.helpers import Bits, Write, h264_sps, h264_vui, hevc_sps, hevc_vui

# What follows whatever is crafted: if a field before it is misread, these do not come out.
TAIL: dict[str, Any] = {"aspect": (255, 7, 5), "colour": (9, 16, 9), "full_range": True}
H264_TAIL = h264_vui(timing=(1001, 60_000), reorder=3, **TAIL)
HEVC_TAIL = hevc_vui(timing=(1001, 30_000), segmentation=77, **TAIL)
SHOWN = Colour(primaries=9, transfer=16, matrix=9, full_range=True)


def assert_tail(picture: PictureFormat, reorder: int = 3) -> None:
    assert picture.sample_aspect_ratio == (7, 5)
    assert picture.colour == SHOWN
    assert picture.frame_duration is not None
    assert Fraction(*picture.frame_duration) == Fraction(1001, 30_000)
    assert picture.reorder_frames == reorder


# -- H.264 -----------------------------------------------------------------------------------------


def test_parse_h264_sps_plain() -> None:
    """Without VUI nothing is said but the size; High means 4:2:0 with 8 bits."""
    assert parse_h264_sps(h264_sps()) == PictureFormat(width=1280, height=720)


@pytest.mark.parametrize(
    ("wishes", "size"),
    [
        ({"crop": (0, 0, 0, 4)}, (1920, 1080)),
        ({"crop": (1, 2, 3, 4)}, (1914, 1074)),
        ({"crop": (1, 2, 3, 4), "chroma": 0}, (1917, 1081)),
        ({"crop": (1, 2, 3, 4), "chroma": 2, "profile": 122}, (1914, 1081)),
        ({"crop": (1, 2, 3, 4), "chroma": 3, "profile": 244}, (1917, 1081)),
        (
            {"crop": (1, 2, 3, 4), "chroma": 3, "profile": 244, "separate_planes": True},
            (1917, 1081),
        ),
        ({"crop": (0, 0, 0, 2), "frame_mbs_only": False, "macroblocks": (120, 34)}, (1920, 1080)),
        (
            {
                "crop": (0, 0, 0, 4),
                "frame_mbs_only": False,
                "macroblocks": (120, 34),
                "chroma": 3,
                "profile": 244,
            },
            (1920, 1080),
        ),
    ],
)
def test_parse_h264_sps_cropped(wishes: dict[str, Any], size: tuple[int, int]) -> None:
    """Cropping counts in the units of the chroma format, twice as high for interlaced pictures."""
    picture = parse_h264_sps(h264_sps(**{"macroblocks": (120, 68), **wishes}, vui=H264_TAIL))
    assert (picture.width, picture.height) == size
    assert_tail(picture)


@pytest.mark.parametrize("profile", [66, 77, 88])
def test_parse_h264_sps_of_old_profiles(profile: int) -> None:
    """Baseline, Main and Extended have no chroma format in their set."""
    picture = parse_h264_sps(h264_sps(profile=profile, vui=H264_TAIL))
    assert (picture.chroma_format_idc, picture.bit_depth_luma, picture.bit_depth_chroma) == (
        1,
        8,
        8,
    )
    # Baseline has no B slices
    assert_tail(picture, reorder=0 if profile == 66 else 3)


@pytest.mark.parametrize("profile", [110, 122, 244, 44, 83, 86, 118, 128])
def test_parse_h264_sps_of_high_profiles(profile: int) -> None:
    """The high profiles say chroma format and bit depths."""
    picture = parse_h264_sps(h264_sps(profile=profile, depths=(10, 12), vui=H264_TAIL))
    assert (picture.bit_depth_luma, picture.bit_depth_chroma) == (10, 12)
    assert_tail(picture)


def _scaling_lists(count: int) -> Write:
    def write(bits: Bits) -> None:
        for number in range(count):
            present = number != 2
            bits.flag(present)
            if not present:
                continue
            size = 16 if number < 6 else 64
            if number == 1:  # the default list: the first scale becomes 0, and no more follow
                bits.se(-8)
            elif number == 3:  # the rest repeats the fifth
                for delta in (2, 2, 2, 2):
                    bits.se(delta)
                bits.se(-16)
            elif number == 4:  # wraps modulo 256
                bits.se(120).se(127).se(2)
                for _ in range(size - 3):
                    bits.se(1)
            else:
                for index in range(size):
                    bits.se(1 if index % 2 else -1)

    return write


@pytest.mark.parametrize(("chroma", "profile", "lists"), [(1, 100, 8), (3, 244, 12)])
def test_parse_h264_sps_with_scaling_lists(chroma: int, profile: int, lists: int) -> None:
    """Scaling lists are passed over, however early they end: eight, or twelve for 4:4:4."""
    sps = h264_sps(profile=profile, chroma=chroma, scaling=_scaling_lists(lists), vui=H264_TAIL)
    assert_tail(parse_h264_sps(sps))


def _cycle(bits: Bits) -> None:
    bits.ue(1).flag(True).se(-3).se(4).ue(3).se(1).se(-1).se(700)


@pytest.mark.parametrize(
    ("order", "reorder"),
    [(_cycle, 3), (lambda bits: bits.ue(2), 0), (lambda bits: bits.ue(0).ue(12), 3)],
)
def test_parse_h264_sps_with_order_types(order: Write, reorder: int) -> None:
    """All three picture order count types are passed over; type 2 means no reordering."""
    assert_tail(parse_h264_sps(h264_sps(order=order, vui=H264_TAIL)), reorder)


@pytest.mark.parametrize("hrds", [1, 2])
def test_parse_h264_sps_with_hrd(hrds: int) -> None:
    """Hypothetical reference decoders stand between timing and reordering."""
    vui = h264_vui(
        timing=(1001, 60_000), reorder=3, hrds=hrds, overscan=True, chroma_location=True, **TAIL
    )
    assert_tail(parse_h264_sps(h264_sps(vui=vui)))


def test_parse_h264_sps_with_too_many_buffers() -> None:
    """A VUI that cannot be is given up where it turns bad; what stood before it is kept."""

    def vui(bits: Bits) -> None:
        helpers.vui_head(bits, **TAIL).flag(False).flag(True).ue(32).u(32, 0).u(32, 0)

    picture = parse_h264_sps(h264_sps(vui=vui))
    assert (picture.width, picture.sample_aspect_ratio, picture.colour) == (1280, (7, 5), SHOWN)
    assert picture.reorder_frames is None


_RATIOS = (
    (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11), (80, 33),
    (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("aspect", "ratio"),
    [
        *(((idc,), ratio) for idc, ratio in enumerate(_RATIOS, 1)),
        ((0,), None),
        ((17,), None),
        ((254,), None),
        ((255, 64, 45), (64, 45)),
        ((255, 0, 45), None),
        ((255, 64, 0), None),
    ],
)
def test_parse_h264_sps_aspect_ratio(
    aspect: tuple[int, ...], ratio: tuple[int, int] | None
) -> None:
    """Table E-1, the extended form, and what is reserved or unspecified."""
    picture = parse_h264_sps(h264_sps(vui=h264_vui(aspect=aspect, reorder=2)))
    assert picture.sample_aspect_ratio == ratio
    assert picture.reorder_frames == 2


def test_parse_h264_sps_signal_without_colour() -> None:
    """A video signal type without a colour description says no colour."""
    picture = parse_h264_sps(h264_sps(vui=h264_vui(signal=True, full_range=True, reorder=1)))
    assert picture.colour is None
    assert picture.reorder_frames == 1


@pytest.mark.parametrize("timing", [(0, 50), (1, 0)])
def test_parse_h264_sps_without_rate(timing: tuple[int, int]) -> None:
    """A clock of 0 says no frame rate."""
    assert parse_h264_sps(h264_sps(vui=h264_vui(timing=timing))).frame_duration is None


def test_parse_h264_sps_reorders_too_much() -> None:
    """More than 16 reordered pictures are bounded: they cost output delay."""
    assert parse_h264_sps(h264_sps(vui=h264_vui(reorder=900))).reorder_frames == 16


@pytest.mark.parametrize(
    "wishes",
    [
        {"reference_frames": 65},
        {"macroblocks": (4096, 45)},
        {"macroblocks": (1, 45), "crop": (4, 4, 0, 0)},
        {"chroma": 4},
        {"depths": (16, 8)},
        {"depths": (8, 16)},
        {"depths": (300, 8)},
    ],
)
def test_parse_h264_sps_that_cannot_be(wishes: dict[str, Any]) -> None:
    """Sizes, depths, formats and references beyond any level are refused."""
    with pytest.raises(BitstreamError):
        parse_h264_sps(h264_sps(**wishes))


@pytest.mark.parametrize("size", [0, 1, 2, 4, 6, 8])
def test_parse_h264_sps_cut(size: int) -> None:
    """A set that ends before the size is refused."""
    with pytest.raises(BitstreamError):
        parse_h264_sps(h264_sps(vui=H264_TAIL)[:size])


def test_parse_h264_sps_with_cut_vui() -> None:
    """A set that ends within the VUI is good for what it says before."""
    sps = h264_sps(vui=H264_TAIL)
    picture = parse_h264_sps(sps[:-6])
    assert (picture.width, picture.height) == (1280, 720)
    assert picture.reorder_frames is None


# -- HEVC ------------------------------------------------------------------------------------------


def test_parse_hevc_sps_plain() -> None:
    """Without VUI there are size, reordering, and profile, tier and level as they stand."""
    sequence = parse_hevc_sps(hevc_sps())
    assert sequence.picture == PictureFormat(width=1280, height=720, reorder_frames=2)
    assert sequence.profile_tier_level == bytes.fromhex("016000000090000000000078")
    assert (sequence.temporal_layers, sequence.temporal_id_nested) == (1, True)
    assert sequence.min_spatial_segmentation == 0


@pytest.mark.parametrize(
    ("chroma", "separate_planes", "size"),
    [
        (0, False, (1917, 1081)),
        (1, False, (1914, 1074)),
        (2, False, (1914, 1081)),
        (3, False, (1917, 1081)),
        (3, True, (1917, 1081)),
    ],
)
def test_parse_hevc_sps_cropped(chroma: int, separate_planes: bool, size: tuple[int, int]) -> None:
    """The conformance window counts in chroma samples."""
    sequence = parse_hevc_sps(
        hevc_sps(
            chroma=chroma,
            separate_planes=separate_planes,
            size=(1920, 1088),
            window=(1, 2, 3, 4),
            vui=HEVC_TAIL,
        )
    )
    picture = sequence.picture
    assert (picture.width, picture.height) == size
    assert picture.chroma_format_idc == chroma
    assert_tail(picture, reorder=2)
    assert sequence.min_spatial_segmentation == 77


@pytest.mark.parametrize(
    "told", [(), ((True, True), (True, False)), ((False, True), (False, False))]
)
@pytest.mark.parametrize("reorder", [(3,), (0, 1, 3)])
def test_parse_hevc_sps_with_sub_layers(
    told: tuple[tuple[bool, bool], ...], reorder: tuple[int, ...]
) -> None:
    """Sub-layers with profiles and levels of their own are passed over; reordering is that of the
    highest one."""
    sequence = parse_hevc_sps(
        hevc_sps(sub_layers=3, told_sub_layers=told, nested=False, reorder=reorder, vui=HEVC_TAIL)
    )
    assert (sequence.temporal_layers, sequence.temporal_id_nested) == (3, False)
    assert_tail(sequence.picture, reorder=3)


def test_parse_hevc_sps_of_ten_bits() -> None:
    """Bit depths of luma and chroma are told apart."""
    picture = parse_hevc_sps(hevc_sps(depths=(10, 12), vui=HEVC_TAIL)).picture
    assert (picture.bit_depth_luma, picture.bit_depth_chroma) == (10, 12)
    assert_tail(picture, reorder=2)


def _hevc_scaling(bits: Bits) -> None:
    for size in range(4):
        for matrix in range(0, 6, 3 if size == 3 else 1):
            listed = (size + matrix) % 2
            bits.flag(listed)
            if not listed:
                bits.ue(
                    matrix // 3 if size == 3 else matrix
                )  # as the default, or as an earlier one
                continue
            if size > 1:
                bits.se(-5)
            for index in range(min(64, 1 << (4 + 2 * size))):
                bits.se(index % 3 - 1)


def _reference_sets(bits: Bits) -> None:
    bits.ue(4)
    bits.ue(2).ue(1)  # the first: two before, one behind
    for delta in (0, 3, 1):
        bits.ue(delta).flag(True)
    # the second: predicted from the first, of whose 3 + 1 entries it keeps three
    bits.flag(True).flag(True).ue(1)
    bits.flag(True).flag(False).flag(False).flag(True).flag(False).flag(True)
    # the third: predicted from the second, and keeps all 3 + 1
    bits.flag(True).flag(False).ue(0)
    for _ in range(4):
        bits.flag(True)
    bits.flag(False).ue(0).ue(1).ue(5).flag(False)  # the fourth: stands for itself


@pytest.mark.parametrize(
    "wishes",
    [
        {"scaling": _hevc_scaling},
        {"scaling_default": True},
        {"pcm": True},
        {"reference_sets": _reference_sets},
        {"long_term": 3, "order_bits": 11},
        {"long_term": 0},
        {
            "scaling": _hevc_scaling,
            "pcm": True,
            "reference_sets": _reference_sets,
            "long_term": 2,
        },
    ],
)
def test_parse_hevc_sps_with_tools(wishes: dict[str, Any]) -> None:
    """Scaling lists, PCM and reference picture sets of every form are passed over to the VUI."""
    sequence = parse_hevc_sps(hevc_sps(vui=HEVC_TAIL, **wishes))
    assert_tail(sequence.picture, reorder=2)
    assert sequence.min_spatial_segmentation == 77


def _hrd(*, nal: bool, vcl: bool, sub_pictures: bool, layers: int) -> Write:
    def write(bits: Bits) -> None:
        bits.flag(nal).flag(vcl)
        if nal or vcl:
            bits.flag(sub_pictures)
            if sub_pictures:
                bits.u(8, 3).u(5, 4).flag(True).u(5, 6)
            bits.u(4, 1).u(4, 2)
            if sub_pictures:
                bits.u(4, 3)
            bits.u(5, 23).u(5, 23).u(5, 23)
        for layer in range(layers):
            form = layer % 4
            buffers = 1
            if form == 0:  # a fixed rate in general
                bits.flag(True).ue(0)
            elif form == 1:  # a fixed rate within the sequence
                bits.flag(False).flag(True).ue(5)
            else:  # no fixed rate; low delay or not
                bits.flag(False).flag(False).flag(form == 2)
            if form != 2:
                buffers = layer + 1
                bits.ue(buffers - 1)
            for _ in range((nal + vcl) * buffers):
                bits.ue(100).ue(200)
                if sub_pictures:
                    bits.ue(50).ue(60)
                bits.flag(False)

    return write


@pytest.mark.parametrize(
    ("nal", "vcl", "sub_pictures"),
    [
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
        (False, True, True),
    ],
)
def test_parse_hevc_sps_with_hrd(nal: bool, vcl: bool, sub_pictures: bool) -> None:
    """Hypothetical reference decoders of every form stand before the segmentation."""
    vui = hevc_vui(
        timing=(1001, 30_000),
        segmentation=77,
        window=True,
        overscan=True,
        chroma_location=True,
        hrd=_hrd(nal=nal, vcl=vcl, sub_pictures=sub_pictures, layers=4),
        **TAIL,
    )
    sequence = parse_hevc_sps(hevc_sps(sub_layers=4, vui=vui))
    assert_tail(sequence.picture, reorder=2)
    assert sequence.min_spatial_segmentation == 77


def test_parse_hevc_sps_with_too_many_buffers() -> None:
    """A VUI that cannot be is given up where it turns bad; what stood before it is kept."""

    def hrd(bits: Bits) -> None:
        bits.flag(True).flag(False).flag(False).u(8, 0).u(15, 0).flag(True).ue(0).ue(32)

    vui = hevc_vui(timing=(1001, 30_000), hrd=hrd, segmentation=77, **TAIL)
    sequence = parse_hevc_sps(hevc_sps(vui=vui))
    assert_tail(sequence.picture, reorder=2)
    assert sequence.min_spatial_segmentation == 0


@pytest.mark.parametrize("timing", [(0, 50), (1, 0)])
def test_parse_hevc_sps_without_rate(timing: tuple[int, int]) -> None:
    """A clock of 0 says no frame rate."""
    assert parse_hevc_sps(hevc_sps(vui=hevc_vui(timing=timing))).picture.frame_duration is None


def test_parse_hevc_sps_bounds_the_segmentation() -> None:
    """The segmentation has 12 bits in hvcC."""
    sequence = parse_hevc_sps(hevc_sps(vui=hevc_vui(segmentation=5000)))
    assert sequence.min_spatial_segmentation == 4095


def _too_many_sets(bits: Bits) -> None:
    bits.ue(65)


def _too_many_pictures(bits: Bits) -> None:
    bits.ue(1).ue(40).ue(40)


@pytest.mark.parametrize(
    "wishes",
    [
        {"size": (0, 720)},
        {"size": (1 << 16, 720)},
        {"size": (8, 8), "window": (2, 2, 0, 0)},
        {"chroma": 4},
        {"depths": (16, 8)},
        {"reference_sets": _too_many_sets},
        {"reference_sets": _too_many_pictures},
        {"sub_layers": 8, "told_sub_layers": ()},
    ],
)
def test_parse_hevc_sps_that_cannot_be(wishes: dict[str, Any]) -> None:
    """Sizes, depths, formats, layers and references beyond any level are refused."""
    with pytest.raises(BitstreamError):
        parse_hevc_sps(hevc_sps(**wishes))


@pytest.mark.parametrize("size", [0, 2, 8, 14, 16, 19])
def test_parse_hevc_sps_cut(size: int) -> None:
    """A set that ends before the VUI is refused."""
    with pytest.raises(BitstreamError):
        parse_hevc_sps(hevc_sps(vui=HEVC_TAIL)[:size])


# -- real encoders ---------------------------------------------------------------------------------

_FORMATS = {  # chroma_format_idc and bit depth → pix_fmt, without the endianness
    (0, 8): "gray",
    (0, 10): "gray10",
    (1, 8): "yuv420p",
    (1, 10): "yuv420p10",
    (1, 12): "yuv420p12",
    (2, 8): "yuv422p",
    (2, 10): "yuv422p10",
    (3, 8): "yuv444p",
}
_UNSPECIFIED = 2  # H.273, of primaries, transfer and matrix alike


def assert_like_libavcodec(picture: PictureFormat, context: Any) -> None:
    """Compare what we read with what libavcodec does."""
    assert (picture.width, picture.height) == (context.width, context.height)
    ratio = picture.sample_aspect_ratio or (0, 1)
    assert Fraction(*ratio) == (context.sample_aspect_ratio or 0)
    name = _FORMATS[picture.chroma_format_idc, picture.bit_depth_luma]
    if (name, context.name) == ("gray", "h264"):
        name = "yuv420p"  # libavcodec fills in the chroma of H.264
    assert context.pix_fmt.removesuffix("le").replace("yuvj", "yuv") == name
    colour = picture.colour
    told = (context.color_primaries, context.color_trc, context.colorspace)
    if colour is None:
        assert told == (_UNSPECIFIED,) * 3
    else:
        assert told == (colour.primaries, colour.transfer, colour.matrix)
        assert context.color_range == (2 if colour.full_range else 1)


@pytest.mark.parametrize(
    ("pixels", "size", "parameters", "reorder"),
    [
        ("yuv420p", (176, 144), "bframes=0", 0),
        ("yuv420p", (178, 98), "bframes=3:b-pyramid=none", 1),
        ("yuv420p", (176, 144), "bframes=3:b-pyramid=normal", 2),
        ("yuv420p10le", (176, 144), "", 0),
        ("yuv422p10le", (162, 90), "", 0),
        ("yuv422p", (176, 98), "", 0),
        ("yuv444p", (175, 143), "", 0),
        ("gray", (176, 144), "", 0),
        ("yuv420p", (176, 100), "tff=1:bframes=2:b-pyramid=none", 1),
        ("yuv420p", (176, 144), "sar=5/7:colorprim=bt709:transfer=bt709:colormatrix=bt709", 0),
        (
            "yuv420p",
            (176, 144),
            "sar=16/11:fullrange=on:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:chromaloc=1",
            0,
        ),
        (
            "yuv420p",
            (176, 144),
            "overscan=show:nal-hrd=vbr:vbv-maxrate=100:vbv-bufsize=100:cqm=jvt:sar=2/1",
            0,
        ),
    ],
)
def test_parse_h264_sps_of_x264(
    pixels: str, size: tuple[int, int], parameters: str, reorder: int
) -> None:
    """What x264 writes is read as libavcodec reads it."""
    units = helpers.encode("libx264", pixels, *size, parameters)
    sps = next(bytes(unit) for unit in split_annexb(units[0]) if unit[0] & 31 == 7)
    picture = parse_h264_sps(sps)
    assert_like_libavcodec(picture, helpers.probe("h264", b"".join(units)))
    assert picture.reorder_frames == reorder
    assert picture.frame_duration is not None
    assert Fraction(*picture.frame_duration) == Fraction(1, 25)


@pytest.mark.parametrize(
    ("pixels", "size", "parameters", "reorder"),
    [
        ("yuv420p", (178, 98), "bframes=0", 0),
        ("yuv420p", (176, 144), "bframes=4:b-adapt=0:b-pyramid=1", 2),
        ("yuv420p", (176, 144), "bframes=2:b-adapt=0:b-pyramid=0:scaling-list=default", 1),
        ("yuv420p10le", (176, 144), "colorprim=9:transfer=16:colormatrix=9:range=full", 2),
        ("yuv420p12le", (176, 144), "", 2),
        ("yuv422p", (176, 98), "", 2),
        ("yuv444p", (175, 143), "", 2),
        ("gray", (176, 144), "", 2),
        ("yuv420p", (176, 144), "temporal-layers=2:hrd=1:vbv-maxrate=200:vbv-bufsize=200", 2),
        ("yuv420p", (176, 144), "sar=4:high-tier=1:level-idc=51", 2),
    ],
)
def test_parse_hevc_sps_of_x265(
    pixels: str, size: tuple[int, int], parameters: str, reorder: int
) -> None:
    """What x265 writes is read as libavcodec reads it."""
    units = helpers.encode("libx265", pixels, *size, parameters, count=12)
    sps = next(bytes(unit) for unit in split_annexb(units[0]) if unit[0] >> 1 & 63 == 33)
    sequence = parse_hevc_sps(sps)
    assert_like_libavcodec(sequence.picture, helpers.probe("hevc", b"".join(units)))
    assert sequence.picture.reorder_frames == reorder
    assert sequence.picture.frame_duration == (1, 25)
    assert sequence.temporal_layers == (2 if "temporal-layers" in parameters else 1)
    assert bool(sequence.profile_tier_level[0] & 0x20) == ("high-tier" in parameters)


# -- the corpus ------------------------------------------------------------------------------------


def test_parse_sps_of_the_corpus(corpus: Path) -> None:
    """Every first parameter set of the corpus is read as libavcodec reads it."""
    compared = 0
    for path in sorted(corpus.glob("*/*.ts")):
        if path.parent.name in {"aes128-vhs", "aes128-ts", "neg-zerolength-ts"}:
            continue  # ciphertext, or nothing
        data = path.read_bytes()
        with av.open(io.BytesIO(data), "r", format="mpegts") as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or stream.codec_context.name not in {"h264", "hevc"}:
                continue
            codec = stream.codec_context.name
            units = [
                bytes(unit)
                for packet in container.demux(stream)
                for unit in split_annexb(bytes(packet))
            ]
            if codec == "h264":
                picture = parse_h264_sps(next(u for u in units if u[0] & 31 == 7))
            else:
                picture = parse_hevc_sps(next(u for u in units if u[0] >> 1 & 63 == 33)).picture
            assert_like_libavcodec(picture, stream.codec_context)
            compared += 1
    assert compared > 30
