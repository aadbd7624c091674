"""Small made DICOM films."""

from __future__ import annotations

import io
import warnings

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from radflow.data.images.film import decode_film

SMOOTH = np.add.outer(np.arange(40) * 30, np.arange(64) * 40).astype(np.uint16)  # 0 to 3690, in 12 bits


def dicom_film(pixels: np.ndarray = SMOOTH, bits: int = 12, **elements: object) -> Dataset:
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = SecondaryCaptureImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Rows, film.Columns = pixels.shape[:2]
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit = 8 * pixels.itemsize, bits, bits - 1
    film.PixelRepresentation = int(pixels.dtype.kind == "i")
    film.PixelData = pixels.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in elements.items():
            setattr(film, name, value)
    return film


def compressed(film: Dataset, syntax: str, *frames: bytes, offsets: bool = True) -> Dataset:
    film.file_meta.TransferSyntaxUID = syntax
    film.PixelData = encapsulate(list(frames), has_bot=offsets)
    film["PixelData"].VR = "OB"
    return film


def file_bytes(film: Dataset) -> bytes:
    """The film as a file, whatever pydicom warns of."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def decode(film: Dataset) -> np.ndarray:
    return decode_film(file_bytes(film), "film.dcm")


def scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Grey of values between black and white, by the definition."""
    return np.rint(np.clip((values.astype(float) - black) / (white - black), 0, 1) * 255)
