// XXH3 with 128 bits over bytes that come in pieces: fingerprints and digests, never the checksums of blocks.
// Not for more than one thread at a time; does not fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace headrace::storage {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void add(std::span<const std::byte> bytes);
  void add_number(uint64_t value);       // eight bytes, little-endian
  void add_text(std::string_view text);  // its length, then its bytes: no two sequences of texts are alike
  std::string hex() const;               // of everything added so far: 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace::storage
