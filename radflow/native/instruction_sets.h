// Which instructions the operations may use: those of this CPU, as far as oneDNN, which computes beside them, may.

#pragma once

#include <cstdlib>
#include <cstring>

#define RADFLOW_AVX2 __attribute__((target("avx2,fma")))
#define RADFLOW_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")))
#define RADFLOW_AVX512_BF16 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")))

namespace radflow {

enum class Instructions { kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// The most that ONEDNN_MAX_CPU_ISA, as oneDNN reads it, lets be used.
inline Instructions MostAllowed() {
  const char* most = std::getenv("ONEDNN_MAX_CPU_ISA");
  const auto starts = [&](const char* name) { return std::strncmp(most, name, std::strlen(name)) == 0; };
  if (!most || starts("AVX10") || !std::strcmp(most, "DEFAULT") || !std::strcmp(most, "ALL"))
    return Instructions::kAvx512Bf16;
  if (!std::strcmp(most, "AVX512_CORE") || !std::strcmp(most, "AVX512_CORE_VNNI")) return Instructions::kAvx512;
  if (starts("AVX512")) return Instructions::kAvx512Bf16;
  return starts("AVX2") ? Instructions::kAvx2 : Instructions::kPortable;
}

inline bool Uses(Instructions wanted) {
  if (wanted > MostAllowed()) return false;
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (wanted == Instructions::kAvx2) return avx2;
  if (wanted == Instructions::kAvx512) return avx512;
  if (wanted == Instructions::kAvx512Bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return wanted == Instructions::kPortable;
}

}  // namespace radflow
