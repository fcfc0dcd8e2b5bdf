// Memory that is registered with the kernel in pieces, and which piece holds a given range. Arithmetic only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace headrace::storage {

class RegisteredMemory {
 public:
  RegisteredMemory() = default;
  RegisteredMemory(std::span<std::byte> memory, uint64_t piece_bytes)
      : memory_(memory), piece_bytes_(piece_bytes) {}

  bool empty() const { return memory_.empty(); }
  std::vector<std::span<std::byte>> pieces() const {
    std::vector<std::span<std::byte>> pieces;
    for (uint64_t first = 0; first < memory_.size(); first += piece_bytes_)
      pieces.push_back(memory_.subspan(first, std::min(piece_bytes_, memory_.size() - first)));
    return pieces;
  }
  // The piece that holds all of [data, data + bytes); nothing for a range outside or across two pieces.
  std::optional<uint32_t> piece_of(const std::byte* data, uint64_t bytes) const {
    const auto begin = reinterpret_cast<uintptr_t>(memory_.data()), first = reinterpret_cast<uintptr_t>(data);
    if (memory_.empty() || bytes == 0 || first < begin) return std::nullopt;
    const uint64_t offset = first - begin;
    if (offset >= memory_.size() || bytes > memory_.size() - offset) return std::nullopt;
    const uint64_t piece = offset / piece_bytes_;
    if ((offset + bytes - 1) / piece_bytes_ != piece) return std::nullopt;
    return static_cast<uint32_t>(piece);
  }

 private:
  std::span<std::byte> memory_;
  uint64_t piece_bytes_ = 1;
};

}  // namespace headrace::storage
