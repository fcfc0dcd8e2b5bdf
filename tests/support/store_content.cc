#include "tests/support/store_content.h"

#include <fmt/format.h>

#include <cstring>

#include "storage/aligned_memory.h"
#include "storage/checksum.h"

namespace headrace::testing {

using namespace storage;

namespace {

PlaneRange all_planes(const BlockLayout& block) { return {0, static_cast<uint32_t>(block.planes.size())}; }

uint64_t mix(uint64_t value) {
  value = (value ^ value >> 31) * 0x9E3779B97F4A7C15u;
  return value ^ value >> 29;
}

}  // namespace

Layout small_layout(uint64_t block_rows) {
  const std::vector<Plane> adamw = {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}};
  const std::vector<Plane> coded = {{"weight.high", 2},  {"weight.low", 2},        {"moment1.code", 1},
                                    {"moment2.code", 1}, {"moment1.scale", 4, 32}, {"moment2.scale", 4, 32}};
  std::vector<TensorSpec> tensors(6);
  tensors[0] = {"frozen", 100, 64, 50, 1, {{"weight.high", 2}}, {{"frozen", {100, 64}, 0}}};
  tensors[1] = {"matrix", 300, 100, block_rows, 2, adamw, {{"matrix", {300, 100}, 0}}};
  tensors[2] = {"wide", 5, 30000, 2, 2, adamw, {{"wide", {5, 30000}, 0}}};
  tensors[3] = {"bundle",
                600,
                1,
                600,
                2,
                adamw,
                {{"b.bias", {100}, 0}, {"a.weight", {200}, 100}, {"c.bias", {300}, 300}}};
  tensors[4] = {"coded", 45, 96, block_rows, 2, coded, {{"coded", {45, 96}, 0}}};
  tensors[5] = {"coded bundle", 95, 1, 95, 2, coded, {{"p.bias", {50}, 0}, {"q.bias", {45}, 50}}};
  return Layout(std::move(tensors));
}

StoreConfig small_config(const std::string& run_dir, const std::vector<std::string>& shard_dirs,
                         uint64_t block_rows) {
  return {run_dir, shard_dirs, small_layout(block_rows), R"({"model":"small"})", R"({"at":0})"};
}

void fill_payload(const Layout& layout, const BlockLayout& block, uint64_t step,
                  std::span<std::byte> payload) {
  const TensorSpec& tensor = layout.tensor(block.tensor);
  if (tensor.slots == 1) step = 0;
  std::memset(payload.data(), 0, payload.size());
  for (uint32_t p = 0; p < block.planes.size(); p++) {
    if (step == 0 && p >= 2) continue;
    const Plane& plane = tensor.planes[p];
    const uint64_t first = block.first_row * tensor.columns / plane.group;
    const uint32_t bytes = plane.element_bytes;
    for (uint64_t i = 0; i < plane.values(block.elements); i++) {
      const uint64_t value = mix(mix(block.tensor * 16 + p) + mix(step) + (first + i));
      std::memcpy(payload.data() + block.planes[p].offset + i * bytes, &value, bytes);
    }
  }
}

BlockFiller small_filler(const Layout& layout) {
  return [&layout](const BlockLayout& block, std::span<std::byte> payload) -> uint32_t {
    fill_payload(layout, block, 0, payload);
    return layout.tensor(block.tensor).slots == 1 ? 1 : 2;
  };
}

void create_small(const StoreConfig& config, BlockIo& io) {
  Store::create(config, io, small_filler(config.layout), 2, nullptr);
}

void write_step(Store& store, BlockIo& io, uint64_t step) {
  const Layout& layout = store.layout();
  for (const BlockLayout& block : layout.blocks()) {
    if (block.slots == 1) continue;
    const AlignedMemory memory(block.payload_bytes);
    fill_payload(layout, block, step, memory.span().first(block.payload_bytes));
    std::vector<IoRequest> requests;
    const uint32_t planes = all_planes(block).last;
    for (const PlaneRange range : {PlaneRange{0, 2}, PlaneRange{2, planes}}) {
      const std::byte* data = memory.data() + block.planes[range.first].offset;
      store.seal(block.id, range, data, 0, chunks_in_range(block, range));
      requests.push_back(store.write_request(block.id, range, data));
    }
    transfer_and_wait(io, requests);
  }
}

Commit commit_of(uint64_t step) {
  return {step, fmt::format("{{\"at\":{}}}", step), {fmt::format("metrics of step {}", step)}};
}

void write_and_commit(Store& store, BlockIo& io, uint64_t step) {
  write_step(store, io, step);
  store.commit(commit_of(step));
}

std::string metrics_lines(uint64_t first_step, uint64_t last_step) {
  std::string text;
  for (uint64_t step = first_step; step <= last_step; step++) text += commit_of(step).metrics_lines[0] + "\n";
  return text;
}

std::string first_difference(const Store& store, BlockIo& io, uint64_t step) {
  const Layout& layout = store.layout();
  for (const BlockLayout& block : layout.blocks()) {
    const AlignedMemory memory(block.payload_bytes), expected(block.payload_bytes);
    IoRequest request = store.read_request(block.id, all_planes(block), memory.data());
    transfer_and_wait(io, {&request, 1});
    store.verify(block.id, all_planes(block), memory.data(), 0, block.chunks);
    fill_payload(layout, block, step, expected.span().first(block.payload_bytes));
    if (std::memcmp(memory.data(), expected.data(), block.payload_bytes) != 0) {
      return fmt::format("block {} of {}", block.id, layout.tensor(block.tensor).name);
    }
  }
  return "";
}

}  // namespace headrace::testing
