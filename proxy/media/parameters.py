"""What the parameter sets of H.264 and HEVC say that an MP4 has to repeat.

Two parsers of sequence parameter sets with one result type, `PictureFormat`: the visible size, the
pixel aspect ratio, colour, timing and reordering.  Read to the end of the VUI and no further.
Pure functions of NAL units (headers included).  Specifications: ITU-T H.264 sections 7.3.2.1.1 and
E.1.1; ITU-T H.265 sections 7.3.2.2, 7.3.3 and E.2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from proxy.media.nal import BitReader, BitstreamError

# H.264 profiles whose SPS carries chroma format and bit depths (section 7.3.2.1.1).
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})

# Table E-1: aspect_ratio_idc to sample aspect ratio.
_ASPECT_RATIOS = {
    1: (1, 1), 2: (12, 11), 3: (10, 11), 4: (16, 11), 5: (40, 33), 6: (24, 11), 7: (20, 11),
    8: (32, 11), 9: (80, 33), 10: (18, 11), 11: (15, 11), 12: (64, 33), 13: (160, 99), 14: (4, 3),
    15: (3, 2), 16: (2, 1),
}  # fmt: skip
_EXTENDED_SAR = 255

# Bounds against crafted sets, far above any level of either specification.
_MOST_REFERENCE_FRAMES = 64
_LARGEST_SIDE = 1 << 16
_MOST_SUB_LAYERS = 7
_DEEPEST_BITS = 15  # avcC and hvcC have three bits for what is above 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """Code points of ITU-T H.273."""

    primaries: int
    transfer: int
    matrix: int
    full_range: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFormat:
    """What a sequence parameter set says of its pictures."""

    width: int  # visible, in luma samples
    height: int
    chroma_format_idc: int = 1
    bit_depth_luma: int = 8
    bit_depth_chroma: int = 8
    sample_aspect_ratio: tuple[int, int] | None = None
    colour: Colour | None = None
    frame_duration: tuple[int, int] | None = None  # seconds as a fraction
    reorder_frames: int | None = None  # None: not said


@dataclass(slots=True)
class _Vui:
    sample_aspect_ratio: tuple[int, int] | None = None
    colour: Colour | None = None
    frame_duration: tuple[int, int] | None = None
    reorder_frames: int | None = None
    min_spatial_segmentation: int = 0


def _lenient(parse: Callable[[BitReader, _Vui], None], r: BitReader) -> _Vui:
    """Keep what stands before the first fault: encoders in the wild write broken VUIs, and decoders
    shrug, since no picture depends on them."""
    vui = _Vui()
    with suppress(BitstreamError):
        parse(r, vui)
    return vui


def _aspect_ratio(r: BitReader) -> tuple[int, int] | None:
    idc = r.u(8)
    ratio = (r.u(16), r.u(16)) if idc == _EXTENDED_SAR else _ASPECT_RATIOS.get(idc)
    return ratio if ratio and all(ratio) else None


def _video_signal(r: BitReader) -> Colour | None:
    r.skip(3)  # video_format
    full_range = r.flag()
    if not r.flag():  # colour_description_present_flag
        return None
    return Colour(primaries=r.u(8), transfer=r.u(8), matrix=r.u(8), full_range=full_range)


def _picture_head(r: BitReader, vui: _Vui) -> None:
    """The part of the VUI that both specifications share."""
    if r.flag():
        vui.sample_aspect_ratio = _aspect_ratio(r)
    if r.flag():  # overscan_info_present_flag
        r.skip(1)
    if r.flag():
        vui.colour = _video_signal(r)
    if r.flag():  # chroma_loc_info_present_flag
        r.ue()
        r.ue()


def _size(width: int, height: int) -> tuple[int, int]:
    if not (0 < width < _LARGEST_SIDE and 0 < height < _LARGEST_SIDE):
        raise BitstreamError(f"a picture of {width}x{height}")
    return width, height


def _check_samples(chroma: int, *depths: int) -> None:
    if chroma > 3 or max(depths) > _DEEPEST_BITS:
        raise BitstreamError(f"samples of chroma format {chroma} and {max(depths)} bits")


# -- H.264 -----------------------------------------------------------------------------------------


def _skip_h264_scaling_list(r: BitReader, size: int) -> None:
    last, following = 8, 8
    for _ in range(size):
        if following:
            following = (last + r.se()) % 256
        last = following or last


def _skip_h264_hrd(r: BitReader) -> None:
    count = r.ue() + 1
    if count > 32:
        raise BitstreamError("more than 32 coded picture buffers")
    r.skip(8)
    for _ in range(count):
        r.ue()
        r.ue()
        r.skip(1)
    r.skip(20)


def _h264_vui(r: BitReader, vui: _Vui) -> None:
    _picture_head(r, vui)
    if r.flag():  # timing_info_present_flag: a tick is a field
        tick, scale = r.u(32), r.u(32)
        r.skip(1)
        if tick and scale:
            vui.frame_duration = (2 * tick, scale)
    hrds = 0
    for _ in range(2):  # nal_hrd_parameters, vcl_hrd_parameters
        if r.flag():
            _skip_h264_hrd(r)
            hrds += 1
    if hrds:
        r.skip(1)  # low_delay_hrd_flag
    r.skip(1)  # pic_struct_present_flag
    if r.flag():  # bitstream_restriction_flag
        r.skip(1)
        for _ in range(4):
            r.ue()
        vui.reorder_frames = min(r.ue(), 16)


def parse_h264_sps(unit: bytes) -> PictureFormat:
    """Parse an H.264 sequence parameter set.

    Raises:
        BitstreamError: it is cut short or says what cannot be.
    """
    r = BitReader.of_nal(unit, 1)
    profile = r.u(8)
    r.skip(16)  # constraint flags, level_idc
    r.ue()  # seq_parameter_set_id
    chroma, depth_luma, depth_chroma, separate_planes = 1, 8, 8, False
    if profile in _HIGH_PROFILES:
        chroma = r.ue()
        separate_planes = chroma == 3 and r.flag()
        depth_luma, depth_chroma = 8 + r.ue(), 8 + r.ue()
        _check_samples(chroma, depth_luma, depth_chroma)
        r.skip(1)
        if r.flag():  # seq_scaling_matrix_present_flag
            for i in range(8 if chroma != 3 else 12):
                if r.flag():
                    _skip_h264_scaling_list(r, 16 if i < 6 else 64)
    r.ue()  # log2_max_frame_num_minus4
    order_type = r.ue()
    if order_type == 0:
        r.ue()
    elif order_type == 1:
        r.skip(1)
        r.se()
        r.se()
        for _ in range(min(r.ue(), 256)):
            r.se()
    if r.ue() > _MOST_REFERENCE_FRAMES:  # max_num_ref_frames
        raise BitstreamError("too many reference frames")
    r.skip(1)
    columns, rows = r.ue() + 1, r.ue() + 1
    frame_mbs_only = r.flag()
    if not frame_mbs_only:
        rows *= 2
        r.skip(1)
    r.skip(1)
    left = right = top = bottom = 0
    if r.flag():  # frame_cropping_flag
        left, right, top, bottom = r.ue(), r.ue(), r.ue(), r.ue()
    planes = 0 if separate_planes else chroma
    crop_x = 2 if planes in {1, 2} else 1
    crop_y = (2 if planes == 1 else 1) * (1 if frame_mbs_only else 2)
    width, height = _size(
        16 * columns - crop_x * (left + right), 16 * rows - crop_y * (top + bottom)
    )
    vui = _lenient(_h264_vui, r) if r.flag() else _Vui()
    if order_type == 2 or profile == 66:  # output order is decoding order; no B slices
        vui.reorder_frames = 0
    return PictureFormat(
        width=width,
        height=height,
        chroma_format_idc=chroma,
        bit_depth_luma=depth_luma,
        bit_depth_chroma=depth_chroma,
        sample_aspect_ratio=vui.sample_aspect_ratio,
        colour=vui.colour,
        frame_duration=vui.frame_duration,
        reorder_frames=vui.reorder_frames,
    )


# -- HEVC ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HevcSequence:
    """What `hvcC` repeats of an HEVC sequence parameter set."""

    picture: PictureFormat
    profile_tier_level: bytes  # 12 bytes: general_profile_space ... general_level_idc
    temporal_layers: int
    temporal_id_nested: bool
    min_spatial_segmentation: int


def skip_sub_layers(r: BitReader, count: int) -> None:
    """Pass what profile_tier_level() says of each of `count` sub-layers (H.265 section 7.3.3)."""
    present = [(r.flag(), r.flag()) for _ in range(count)]
    if count:
        r.skip(2 * (8 - count))
    for profile, level in present:
        r.skip(88 * profile + 8 * level)


def _skip_hevc_scaling_lists(r: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not r.flag():
                r.ue()
            else:
                if size > 1:
                    r.se()
                for _ in range(min(64, 1 << (4 + 2 * size))):
                    r.se()


def _skip_reference_picture_sets(r: BitReader) -> None:
    count = r.ue()
    if count > 64:
        raise BitstreamError("more than 64 short-term reference picture sets")
    pictures = 0
    for index in range(count):
        if index and r.flag():  # inter_ref_pic_set_prediction_flag
            r.skip(1)
            r.ue()
            kept = 0
            for _ in range(pictures + 1):
                used = r.flag()
                if used or r.flag():
                    kept += 1
            pictures = kept
        else:
            negative, positive = r.ue(), r.ue()
            pictures = negative + positive
            if pictures > _MOST_REFERENCE_FRAMES:
                raise BitstreamError("too many reference pictures")
            for _ in range(pictures):
                r.ue()
                r.skip(1)


def _skip_hevc_hrd(r: BitReader, sub_layers: int) -> None:
    nal, vcl = r.flag(), r.flag()
    sub_pictures = False
    if nal or vcl:
        sub_pictures = r.flag()
        if sub_pictures:
            r.skip(19)
        r.skip(8)
        if sub_pictures:
            r.skip(4)
        r.skip(15)
    for _ in range(sub_layers):
        low_delay, count = False, 1
        fixed = r.flag()
        if fixed or r.flag():  # fixed_pic_rate_within_cvs_flag
            r.ue()
        else:
            low_delay = r.flag()
        if not low_delay:
            count = r.ue() + 1
            if count > 32:
                raise BitstreamError("more than 32 coded picture buffers")
        for _ in range((nal + vcl) * count):
            r.ue()
            r.ue()
            if sub_pictures:
                r.ue()
                r.ue()
            r.skip(1)


def _hevc_vui(r: BitReader, vui: _Vui, sub_layers: int) -> None:
    _picture_head(r, vui)
    r.skip(3)  # neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
    if r.flag():  # default_display_window_flag
        for _ in range(4):
            r.ue()
    if r.flag():  # vui_timing_info_present_flag: a tick is a picture
        tick, scale = r.u(32), r.u(32)
        if tick and scale:
            vui.frame_duration = (tick, scale)
        if r.flag():
            r.ue()
        if r.flag():
            _skip_hevc_hrd(r, sub_layers)
    if r.flag():  # bitstream_restriction_flag
        r.skip(3)
        vui.min_spatial_segmentation = min(r.ue(), 4095)


def parse_hevc_sps(unit: bytes) -> HevcSequence:
    """Parse an HEVC sequence parameter set.

    Raises:
        BitstreamError: it is cut short or says what cannot be.
    """
    r = BitReader.of_nal(unit, 2)
    r.skip(4)
    sub_layers = r.u(3) + 1
    if sub_layers > _MOST_SUB_LAYERS:
        raise BitstreamError("more than 7 temporal sub-layers")
    nested = r.flag()
    profile_tier_level = r.u(96).to_bytes(12, "big")
    skip_sub_layers(r, sub_layers - 1)
    r.ue()  # sps_seq_parameter_set_id
    chroma = r.ue()
    separate_planes = chroma == 3 and r.flag()
    width, height = r.ue(), r.ue()
    if r.flag():  # conformance_window_flag
        left, right, top, bottom = r.ue(), r.ue(), r.ue(), r.ue()
        planes = 0 if separate_planes else chroma
        width -= (2 if planes in {1, 2} else 1) * (left + right)
        height -= (2 if planes == 1 else 1) * (top + bottom)
    width, height = _size(width, height)
    depth_luma, depth_chroma = 8 + r.ue(), 8 + r.ue()
    _check_samples(chroma, depth_luma, depth_chroma)
    order_bits = r.ue() + 4
    reorder = 0
    for _ in range(sub_layers if r.flag() else 1):
        r.ue()
        reorder = min(r.ue(), 16)  # of the highest sub-layer: the last one said
        r.ue()
    for _ in range(6):
        r.ue()
    if r.flag() and r.flag():  # scaling_list_enabled_flag, sps_scaling_list_data_present_flag
        _skip_hevc_scaling_lists(r)
    r.skip(2)
    if r.flag():  # pcm_enabled_flag
        r.skip(8)
        r.ue()
        r.ue()
        r.skip(1)
    _skip_reference_picture_sets(r)
    if r.flag():  # long_term_ref_pics_present_flag
        for _ in range(min(r.ue(), 33)):
            r.skip(order_bits + 1)
    r.skip(2)
    vui = _lenient(partial(_hevc_vui, sub_layers=sub_layers), r) if r.flag() else _Vui()
    return HevcSequence(
        picture=PictureFormat(
            width=width,
            height=height,
            chroma_format_idc=chroma,
            bit_depth_luma=depth_luma,
            bit_depth_chroma=depth_chroma,
            sample_aspect_ratio=vui.sample_aspect_ratio,
            colour=vui.colour,
            frame_duration=vui.frame_duration,
            reorder_frames=reorder,
        ),
        profile_tier_level=profile_tier_level,
        temporal_layers=sub_layers,
        temporal_id_nested=nested,
        min_spatial_segmentation=vui.min_spatial_segmentation,
    )
