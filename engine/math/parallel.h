// Loops over ranges on the calling oneTBB arena.
#pragma once

#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <cstdint>

#include "engine/math/task_order.h"

namespace headrace::math {

// oneTBB's, with its order made known: calls body(part) for parts of `range`.
template <class Range, class Body>
void parallel_ranges(const Range& range, const Body& body) {
  const TaskOrder order;
  oneapi::tbb::parallel_for(range, [&](const Range& part) {
    enter_body();
    const TaskOrder::Task task(order);
    body(part);
  });
}

// Calls body(i) for [0, count), each as a task.
template <class Index, class Body>
void parallel_tasks(Index count, const Body& body) {
  const TaskOrder order;
  oneapi::tbb::parallel_for(
      Index{0}, count,
      [&](Index i) {
        enter_body();
        const TaskOrder::Task task(order);
        body(i);
      },
      oneapi::tbb::simple_partitioner());
}

// Calls body(first, last) for [0, count) cut every `grain`; in any order, on any thread.
template <class Body>
void parallel_blocks(int64_t count, int64_t grain, const Body& body) {
  const int64_t blocks = (count + grain - 1) / grain;
  if (blocks <= 1) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  parallel_tasks(blocks, [&](int64_t block) { body(block * grain, std::min(count, (block + 1) * grain)); });
}

// The same over rows of `columns` floats, a task of about 128 KiB.
template <class Body>
void parallel_rows(int64_t rows, int64_t columns, const Body& body) {
  parallel_blocks(rows, std::max<int64_t>(1, 32 * 1024 / std::max<int64_t>(1, columns)), body);
}

}  // namespace headrace::math
