// Streams a whole store's blocks for storage_benchmark.py, which says over standard input what to do next, so
// that everything alternates with fio within one run.
//
//   storage_benchmark DIR [MODEL]
//
// prints a line of JSON with the sizes, then answers each line with one of seconds and bytes:
//   read    a step's reads: the weights of every block in order (forward), whole blocks in reverse (backward)
//   write   a step's writes: whole blocks in reverse order, to the slot that is not current
//   rw      the backward pass: each block is read and written, both in flight together
//   create  Store::create() of a new run, as train does it; bytes are those it has to write
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/train/initial_content.h"
#include "engine/train/session.h"
#include "engine/train/session_io.h"
#include "models/gpt2.h"
#include "models/registry.h"
#include "storage/aligned_memory.h"
#include "storage/bench/job.h"
#include "storage/bench/patterns.h"

namespace headrace::train {
namespace {

using bench::Access;
using storage::BlockLayout;
using storage::PlaneRange;

constexpr uint32_t kRequests = 32;  // in flight: always at least as many transfers as the depth of the drive

class Benchmark {
 public:
  Benchmark(std::string directory, const std::string& model)
      : directory_(std::move(directory)),
        model_(models::make_gpt2(models::gpt2_config(models::load_model(model).json))) {
    run_.model = model;
    layout_ = make_layout(*model_, run_);
    for (const BlockLayout& block : layout_.blocks()) largest_ = std::max(largest_, block.payload_bytes);
    memory_ = storage::AlignedMemory(kRequests * largest_);
    bench::fill_random(memory_.span(), 1);
    create("store");
    SessionOptions session;
    session.run_dir = directory_ + "/store";
    SessionIo opened = open_session_io(session);
    tuning_ = opened.tuned.tuning;
    io_ = std::move(opened.io);
    io_->register_memory(memory_.span());
    store_ = storage::Store::open(session.run_dir, {}, *io_);
    // Both slots of every block get content: an extent that was never written reads without the drive.
    run(writes());
    store_->commit({.step = 1, .cursor_json = "{}", .metrics_lines = {}});
    run(writes());
  }

  std::string description() const {
    return fmt::format(
        R"({{"payload_bytes":{},"created_bytes":{},"transfer_bytes":{},"depth":{},"io":"{}"}})",
        layout_.payload_bytes(), created_bytes(), tuning_.transfer_bytes, tuning_.depth, io_->description());
  }

  std::string answer(const std::string& what) {
    if (what == "create") {
      const double seconds = create("new");
      std::filesystem::remove_all(directory_ + "/new");
      return fmt::format(R"({{"seconds":{},"bytes":{}}})", seconds, created_bytes());
    }
    const bench::JobResult result = run(what == "read" ? reads() : what == "write" ? writes() : both());
    return fmt::format(R"({{"seconds":{},"bytes":{},"cpu_seconds_per_gb":{}}})", result.seconds,
                       result.bytes(), result.cpu_seconds_per_gb());
  }

 private:
  static PlaneRange all_planes(const BlockLayout& block) {
    return {0, static_cast<uint32_t>(block.planes.size())};
  }
  static PlaneRange weight_planes(const BlockLayout&) { return {0, 2}; }

  Access reading(const BlockLayout& block, PlaneRange range) {
    const storage::IoRequest request = store_->read_request(block.id, range, memory_.data());
    return {request.kind, request.file, request.offset, request.bytes};
  }
  // What the write's content is does not matter here, so its checksums are not what is written.
  Access writing(const BlockLayout& block) {
    const PlaneRange range = all_planes(block);
    store_->seal(block.id, range, memory_.data(), 0, block.chunks);
    const storage::IoRequest request = store_->write_request(block.id, range, memory_.data());
    return {request.kind, request.file, request.offset, request.bytes};
  }

  template <typename Visit>
  void backward(const Visit& visit) {
    for (size_t i = layout_.blocks().size(); i > 0; --i) visit(layout_.blocks()[i - 1]);
  }
  std::vector<Access> reads() {
    store_->abandon_step();  // what is read was committed
    std::vector<Access> list;
    for (const BlockLayout& block : layout_.blocks()) list.push_back(reading(block, weight_planes(block)));
    backward([&](const BlockLayout& block) { list.push_back(reading(block, all_planes(block))); });
    return list;
  }
  std::vector<Access> writes() {
    std::vector<Access> list;
    backward([&](const BlockLayout& block) { list.push_back(writing(block)); });
    return list;
  }
  std::vector<Access> both() {
    store_->abandon_step();
    std::vector<Access> list;
    backward([&](const BlockLayout& block) {
      list.push_back(reading(block, all_planes(block)));
      list.push_back(writing(block));
    });
    return list;
  }

  bench::JobResult run(std::vector<Access> list) {
    bench::ListPattern pattern(std::move(list));
    const bench::Stream stream{&pattern, kRequests, largest_};
    return bench::run_job(*io_, {&stream, 1}, memory_.span(), {});
  }

  uint64_t created_bytes() const {  // planes with content, of one slot
    uint64_t bytes = 0;
    for (const BlockLayout& block : layout_.blocks()) {
      bytes += storage::Layout::range_bytes(block, weight_planes(block));
    }
    return bytes;
  }

  double create(const std::string& name) {
    SessionOptions session;
    session.run_dir = directory_ + "/" + name;
    const auto start = std::chrono::steady_clock::now();
    {
      const SessionIo opened = open_session_io(session);
      storage::Store::create({.run_dir = session.run_dir,
                              .shard_dirs = {},
                              .layout = layout_,
                              .model_json = "{}",
                              .cursor_json = "{}"},
                             *opened.io, initial_content(*model_, run_.seed),
                             std::max(1u, std::thread::hardware_concurrency()), [](uint64_t, uint64_t) {});
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  std::string directory_;
  std::unique_ptr<Model> model_;
  RunOptions run_;
  storage::Layout layout_;
  uint64_t largest_ = 0;
  storage::AlignedMemory memory_;
  storage::IoTuning tuning_;
  std::unique_ptr<storage::BlockIo> io_;
  std::unique_ptr<storage::Store> store_;
};

}  // namespace
}  // namespace headrace::train

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: storage_benchmark DIR [MODEL]\n");
    return 2;
  }
  headrace::train::Benchmark benchmark(argv[1], argc > 2 ? argv[2] : "gpt2");
  fmt::print("{}\n", benchmark.description());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    fmt::print("{}\n", benchmark.answer(line));
    std::fflush(stdout);
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
