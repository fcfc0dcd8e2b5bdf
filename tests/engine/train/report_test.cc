#include "engine/train/report.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace headrace::train {
namespace {

TEST(MetricsLine, HoldsTheContractsFieldsInOrder) {
  StepReport report;
  report.step = 7;
  report.loss = 0.1;
  report.lr = 6e-4;
  report.grad_norm = 1.0 / 3;
  report.tokens = 1024;
  report.seconds = 2;
  report.read_bytes = 3'000'000'000;
  const std::string line = metrics_line(report);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto json = nlohmann::ordered_json::parse(line);
  std::vector<std::string> names;
  for (const auto& [name, value] : json.items()) names.push_back(name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"step", "loss", "lr", "grad_norm", "tokens", "seconds",
                                      "tokens_per_second", "read_bytes", "written_bytes", "compute_seconds",
                                      "read_wait_seconds", "write_wait_seconds", "rss_bytes"}));
  EXPECT_EQ(json["loss"].get<double>(), 0.1);
  EXPECT_EQ(json["grad_norm"].get<double>(), 1.0 / 3);
  EXPECT_EQ(json["tokens_per_second"].get<double>(), 512);
  EXPECT_NE(line.find("\"loss\":0.10000000000000001,"), std::string::npos) << line;
}

TEST(MetricsLine, SaysThatAnUpdateWasSkipped) {
  StepReport report;
  EXPECT_FALSE(nlohmann::json::parse(metrics_line(report)).contains("skipped"));
  report.skipped = true;
  EXPECT_EQ(nlohmann::json::parse(metrics_line(report))["skipped"], true);
}

TEST(MetricsLine, StaysJsonWhenTheLossIsNoNumber) {
  StepReport report;
  report.loss = std::numeric_limits<double>::quiet_NaN();
  report.grad_norm = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(nlohmann::json::parse(metrics_line(report))["loss"].is_null());
}

}  // namespace
}  // namespace headrace::train
