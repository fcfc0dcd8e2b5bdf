// Writes the committed content of a run as plain files: DIR/<plane>.raw for each plane, and DIR/state.raw
// with all planes of block after block. For comparing checkpoints with other ways to compress them.
//   dump_planes RUN DIR
#include <cstdio>
#include <map>
#include <string>

#include "storage/aligned_memory.h"
#include "storage/error.h"
#include "storage/store.h"

namespace headrace {
namespace {

using namespace storage;

void append(const std::string& path, std::span<const std::byte> bytes) {
  std::FILE* file = std::fopen(path.c_str(), "ab");
  const bool written = file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (file == nullptr || std::fclose(file) != 0 || !written)
    throw Error(ErrorKind::kFailed, "cannot write " + path);
}

void dump(const std::string& run_dir, const std::string& directory) {
  const auto io = make_block_io({});
  const auto store = Store::open(run_dir, {}, *io);
  for (const BlockLayout& block : store->layout().blocks()) {
    const AlignedMemory memory(block.payload_bytes);
    const PlaneRange all{0, static_cast<uint32_t>(block.planes.size())};
    IoRequest request = store->read_request(block.id, all, memory.data());
    transfer_and_wait(*io, {&request, 1});
    store->verify(block.id, all, memory.data(), 0, block.chunks);
    for (size_t p = 0; p < block.planes.size(); p++) {
      const std::span content(memory.data() + block.planes[p].offset, block.planes[p].bytes);
      append(directory + "/" + store->layout().tensor(block.tensor).planes[p].name + ".raw", content);
      append(directory + "/state.raw", content);
    }
  }
}

}  // namespace
}  // namespace headrace

int main(int count, char** arguments) {
  try {
    if (count != 3) throw headrace::Error(headrace::ErrorKind::kUsage, "usage: dump_planes RUN DIR");
    headrace::dump(arguments[1], arguments[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
