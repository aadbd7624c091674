// Maps in tiles for Winograd's F(2x2, 3x3) (Lavin & Gray 2016, arXiv:1509.09308): squares of 2x2, each of which meets
// 4x4 pixels of the other maps, from one row and one column before it on.

#pragma once

#include <array>
#include <cstdint>

#include "products.h"
#include "sharing.h"

namespace radflow {

constexpr int kSide = 4, kPlanes = kSide * kSide;  // of the pixels that a tile meets, and of all that is transformed

// [1 0 -1 0], [0 1 1 0], [0 -1 1 0], [0 1 0 -1] times the four values.
template <typename V>
RADFLOW_INLINE void TransformFour(const V* in, int stride, V* out, int out_stride) {
  const V a = in[0], b = in[stride], c = in[2 * stride], d = in[3 * stride];
  out[0] = a - c;
  out[out_stride] = b + c;
  out[2 * out_stride] = c - b;
  out[3 * out_stride] = b - d;
}

// The planes of 4x4 values, row by row.
template <typename V>
RADFLOW_INLINE void TransformPixels(const V* in, V* out) {
  V columns[kPlanes];
#pragma GCC unroll 4
  for (int j = 0; j < kSide; ++j) TransformFour(in + j, kSide, columns + j, kSide);
#pragma GCC unroll 4
  for (int i = 0; i < kSide; ++i) TransformFour(columns + kSide * i, 1, out + kSide * i, 1);
}

// The tiles of all films, in rows.
struct Tiles {
  explicit Tiles(const Tensor& maps)
      : height(maps.dim_size(1)), width(maps.dim_size(2)), down(Parts(height, 2)), across(Parts(width, 2)),
        count(maps.dim_size(0) * down * across) {}

  // The number of the pixel at a row and column of a tile; -1 beyond the edge.
  int64_t Pixel(int64_t tile, int row, int column) const {
    const int64_t film = tile / (down * across), y = tile / across % down * 2 + row, x = tile % across * 2 + column;
    const bool is_inside = y >= 0 && y < height && x >= 0 && x < width;
    return is_inside ? (film * height + y) * width + x : -1;
  }

  // Where the channels of a square of kLength x kLength pixels are, in whose middle a tile is; beyond the edge zeros.
  template <int kLength>
  std::array<const float*, kLength * kLength> Square(const float* maps, int64_t channels, int64_t tile,
                                                     const float* zeros) const {
    constexpr int kBefore = (kLength - 2) / 2;
    std::array<const float*, kLength * kLength> pixels;
    for (int i = 0; i < kLength * kLength; ++i) {
      const int64_t pixel = Pixel(tile, i / kLength - kBefore, i % kLength - kBefore);
      pixels[i] = pixel < 0 ? zeros : maps + pixel * channels;
    }
    return pixels;
  }

  int64_t height, width, down, across, count;
};

}  // namespace radflow
