// Memory for operands of products.

#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace radflow {

constexpr int64_t kLine = 64;  // bytes of a line of the cache

// Memory that begins with a line of the cache, so that no register that is read or written spans two, and that is not
// set before it is written.
template <typename T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}  // NOLINT: allocators are converted
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{kLine})); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t{kLine}); }
  template <typename U>
  void construct(U* place) { ::new (static_cast<void*>(place)) U; }
  bool operator==(const LineAllocator&) const { return true; }
  bool operator!=(const LineAllocator&) const { return false; }
};
template <typename T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

}  // namespace radflow
