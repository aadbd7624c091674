// Work shared by the threads of the process.

#pragma once

#include <cstdint>

#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"

namespace radflow {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// How many parts of a size something has.
inline int64_t Parts(int64_t all, int64_t of_part) { return (all + of_part - 1) / of_part; }

inline int64_t ThreadsOf(OpKernelContext* context) {
  return context->device()->tensorflow_cpu_worker_threads()->num_threads;
}

// Calls work(first, last) on the threads, for parts of [0, all) that cost so many cycles each.
template <typename Work>
void Share(OpKernelContext* context, int64_t all, int64_t cost, const Work& work) {
  auto& workers = *context->device()->tensorflow_cpu_worker_threads();
  tensorflow::Shard(workers.num_threads, workers.workers, all, cost, work);
}

}  // namespace radflow
