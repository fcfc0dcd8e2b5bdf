// What oneTBB orders, made known to ThreadSanitizer, which cannot see it: the library is built without it,
// and its headers are left out (tools/tsan_ignore.txt). Nothing but what oneTBB promises is said here:
//
// - what a thread did before it called parallel_for or parallel_reduce comes before every body, and every
//   body before what the caller does after it; two bodies have no order;
// - with one token a pipeline's filters come one after another;
// - an arena's slot belongs to one thread at a time: what it did there comes before what the next one does.
//
// In other builds all of this is nothing.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HEADRACE_THREAD_SANITIZER 1
#endif
#endif

#ifdef HEADRACE_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace headrace::math {

#ifdef HEADRACE_THREAD_SANITIZER
// All that released comes before all that acquires after it.
inline void order_release(const void* at) { __tsan_release(const_cast<void*>(at)); }
inline void order_acquire(const void* at) { __tsan_acquire(const_cast<void*>(at)); }
#else
inline void order_release(const void*) {}
inline void order_acquire(const void*) {}
#endif

// Stands for the start of any parallel call. It has one address, since a body that another thread took up may
// not even read where its own call is before it knows what its caller did: that is in its closure.
inline char any_call;

// The first thing that a body does.
inline void enter_body() { order_acquire(&any_call); }

// The bodies of one parallel call: made before it, destroyed after it; a Task in each body, once it was
// entered.
class TaskOrder {
 public:
  TaskOrder() { order_release(&any_call); }
  ~TaskOrder() { order_acquire(&end_); }
  TaskOrder(const TaskOrder&) = delete;
  TaskOrder& operator=(const TaskOrder&) = delete;

  class Task {
   public:
    explicit Task(const TaskOrder& order) : order_(order) {}
    ~Task() { order_release(&order_.end_); }
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;

   private:
    const TaskOrder& order_;
  };

 private:
  char end_ = 0;  // only its address matters
};

// What happens one after another, on whatever threads. `at` stands for it, and for nothing else.
class SerialOrder {
 public:
  explicit SerialOrder(const void* at) : at_(at) { order_acquire(at_); }
  ~SerialOrder() { order_release(at_); }
  SerialOrder(const SerialOrder&) = delete;
  SerialOrder& operator=(const SerialOrder&) = delete;

 private:
  const void* at_;
};

// The filters of a pipeline, which has one token where this is something.
class PipelineOrder {
 public:
  PipelineOrder() = default;
  PipelineOrder(const PipelineOrder&) = delete;
  PipelineOrder& operator=(const PipelineOrder&) = delete;

  class Filter {
   public:
    explicit Filter(const PipelineOrder& pipeline) : task_(pipeline.tasks_), serial_(&pipeline.serial_) {}

   private:
    TaskOrder::Task task_;
    SerialOrder serial_;
  };

 private:
  TaskOrder tasks_;
  char serial_ = 0;  // only its address matters
};

}  // namespace headrace::math
