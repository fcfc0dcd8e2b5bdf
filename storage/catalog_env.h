// A small LMDB environment that commits durably and whose values are checked: each carries the number of the
// transaction that wrote it and XXH3 over key, value and that number.
//
// Ownership: holds the environment; open a directory at most once in a process (LMDB's rule). Threads: one at
// a time. Failure: Error; kCorrupt for a file or value that is not what was written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace headrace::storage {

enum class CatalogAccess : uint8_t {
  kCreate,  // in an empty directory
  kWrite,
  kRead,  // beside a live writer, too
};

class CatalogEnv {
 public:
  CatalogEnv(const std::string& directory, CatalogAccess access);
  ~CatalogEnv();
  CatalogEnv(const CatalogEnv&) = delete;
  CatalogEnv& operator=(const CatalogEnv&) = delete;

  class Batch {
   public:
    virtual void put(std::string_view key, std::span<const std::byte> value) = 0;
    void put(std::string_view key, std::string_view text) { put(key, std::as_bytes(std::span(text))); }

   protected:
    ~Batch() = default;
  };
  // Makes room for a commit that writes at most so many bytes; SpaceError where there is none. Not for kRead.
  void reserve(uint64_t bytes) const;
  // One transaction with all that `fill` puts (at least one value), durable on return. `fill` is called again
  // when the map has to grow.
  void commit(const std::function<void(Batch&)>& fill);

  // `transaction`: that wrote the value.
  using Visitor =
      std::function<void(std::string_view key, std::span<const std::byte> value, uint64_t transaction)>;
  // All values in the order of keys, each checked, in one short transaction; returns the newest transaction.
  uint64_t read_all(const Visitor& visit) const;

  const std::string& path() const;  // of the data file

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace::storage
