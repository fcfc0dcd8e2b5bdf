// What is found wrong, in sentences: the first of them, and how many more there were. The list is as long as
// what is damaged is large, and whoever made it may mean harm.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace headrace::storage {

class FaultList {
 public:
  static constexpr size_t kMost = 1000;

  // What was just added already is not added again: two readings may meet one fault.
  void add(std::string fault) {
    if (!faults_.empty() && faults_.back() == fault) return;
    if (faults_.size() < kMost) {
      faults_.push_back(std::move(fault));
    } else {
      more_++;
    }
  }
  bool empty() const { return faults_.empty(); }
  std::vector<std::string> sentences() const {
    std::vector<std::string> all = faults_;
    if (more_ > 0) all.push_back(fmt::format("and {} more", more_));
    return all;
  }

 private:
  std::vector<std::string> faults_;
  size_t more_ = 0;
};

}  // namespace headrace::storage
