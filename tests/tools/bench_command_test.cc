// headrace bench as a user meets it: results, bad input, what is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using testing::Process;
using testing::ProcessResult;
using ::testing::StartsWith;

// A tmpfs of its own, for disks that are full or read-only. For tests that run as root, as all machines of
// the project's CI do.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const std::string& options, unsigned long flags = 0) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = ::mount("none", path.c_str(), "tmpfs", flags, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

class BenchCommand : public ::testing::Test {
 protected:
  ProcessResult bench(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "bench");
    return testing::run_headrace(HEADRACE_BINARY, arguments, directory_.path());
  }
  void SetUp() override {
    std::filesystem::create_directory(directory_ / "one");
    std::filesystem::create_directory(directory_ / "two");
    testing::write_file(directory_ / "file", "");
  }
  void expect_nothing_left() const {
    for (const char* name : {"one", "two"}) EXPECT_TRUE(std::filesystem::is_empty(directory_ / name)) << name;
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(BenchCommand, PrintsATableWithUnits) {
  const ProcessResult result = bench({"one", "--size", "8MiB", "--bs", "64k"});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  for (const char* text : {"requests of 64KiB, 16 in flight", "read ", "write ", "rw, reads", "rw, writes",
                           "MB/s", "p99.9", "s/GB", "free of"}) {
    EXPECT_THAT(result.out, HasSubstr(text));
  }
  expect_nothing_left();
}

TEST_F(BenchCommand, PrintsJsonWithTheNamesOfFio) {
  const ProcessResult result =
      bench({"one", "two", "--size=4m", "--bs", "16k", "--rw", "read,randwrite,randrw", "--rwmixread", "75",
             "--iodepth", "4", "--numjobs", "2", "--json"});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["directories"].size(), 2u);
  ASSERT_EQ(json["jobs"].size(), 2u + 3 * 3);  // the fills; each alone and both striped
  for (const auto& job : json["jobs"]) {
    for (const char* name : {"jobname", "error", "job options", "usr_cpu", "sys_cpu"}) {
      EXPECT_TRUE(job.contains(name)) << name;
    }
    for (const char* direction : {"read", "write"}) {
      const auto& d = job[direction];
      for (const char* name : {"io_bytes", "io_kbytes", "bw_bytes", "bw", "iops", "runtime", "total_ios"}) {
        EXPECT_TRUE(d[name].is_number()) << name;
      }
      EXPECT_EQ(d["io_bytes"],
                d["total_ios"].get<uint64_t>() * std::stoull(job["job options"]["bs"].get<std::string>()));
      EXPECT_EQ(d["clat_ns"]["N"], d["total_ios"]);
      for (const char* percent : {"50.000000", "95.000000", "99.000000", "99.900000"}) {
        EXPECT_LE(d["clat_ns"]["percentile"][percent], d["clat_ns"]["max"]);
      }
    }
  }
  // Two jobs' files of 4 MiB in each directory: every byte once.
  const auto moved = [&](size_t job, const char* direction) {
    return json["jobs"][job][direction]["io_bytes"].get<uint64_t>();
  };
  constexpr uint64_t kAll = 8 << 20;
  EXPECT_EQ(moved(2, "read"), kAll);
  EXPECT_EQ(moved(3, "write"), kAll);
  EXPECT_EQ(moved(4, "read"), kAll / 4 * 3);
  EXPECT_EQ(moved(4, "write"), kAll / 4);
  EXPECT_EQ(moved(8, "read"), 2 * kAll);  // striped
  EXPECT_EQ(json["jobs"][8]["headrace"]["directories"].size(), 2u);
  expect_nothing_left();
}

TEST_F(BenchCommand, MeasuresEveryPattern) {
  const ProcessResult result =
      bench({"one", "--pattern", "all", "--size", "8m", "--bs", "256k", "--runtime", "0.01", "--json"});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  std::map<std::string, int> groups;
  std::set<std::string> engines;
  for (const auto& job : json["jobs"]) {
    ++groups[job["headrace"]["group"]];
    if (job["headrace"]["group"] == "backends") engines.insert(job["job options"]["ioengine"]);
    EXPECT_GT(job["read"]["total_ios"].get<uint64_t>() + job["write"]["total_ios"].get<uint64_t>(), 0u);
  }
  EXPECT_EQ(groups["standard"], 3);
  EXPECT_EQ(groups["sustained"], 1);
  EXPECT_EQ(groups["sweep"], 2 * 6 * 4);
  EXPECT_TRUE(engines.contains("threads"));
  EXPECT_TRUE(engines.contains("lmdb"));
  const ProcessResult text = bench({"one", "--pattern", "all", "--size", "8m", "--runtime", "0.01"});
  for (const char* part :
       {"read, lmdb", "write, threads", "randread by size", "writes for long", "by LMDB"}) {
    EXPECT_THAT(text.out, HasSubstr(part));
  }
  expect_nothing_left();
}

TEST_F(BenchCommand, WritesAPageThatNeedsNothingElse) {
  // A path that would end the script element if it were let to.
  const std::string place = "a<!--</script><b>&'\"@TEXT@";
  std::filesystem::create_directories(directory_ / place);
  const ProcessResult result =
      bench({place, "--pattern", "all", "--size", "8m", "--runtime", "0.01", "--html", "page.html"});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const std::string page = testing::read_file(directory_ / "page.html");
  for (const char* reference :
       {"src=", "href=", "<link", "@import", "url(", "fetch(", "XMLHttpRequest", "import("}) {
    EXPECT_EQ(page.find(reference), std::string::npos) << reference;
  }
  // Nothing but the notices of the plots' library names a place in the network.
  for (size_t at = page.find("://"); at != std::string::npos; at = page.find("://", at + 1)) {
    EXPECT_THAT(page.substr(at, 30),
                ::testing::AnyOf(StartsWith("://www.chartjs.org"), StartsWith("://github.com/kurkle/color")));
  }
  const std::string opening = "<script id=\"report\" type=\"application/json\">";
  const size_t begin = page.find(opening);
  ASSERT_NE(begin, std::string::npos);
  const size_t end = page.find("</script>", begin);
  const auto json = nlohmann::json::parse(page.substr(begin + opening.size(), end - begin - opening.size()));
  EXPECT_EQ(json["directories"][0]["path"], place);
  EXPECT_EQ(json["jobs"].size(), 4u + 7u + 48u + 1u);
  EXPECT_EQ(page.find("<b>"), std::string::npos);
  EXPECT_THAT(page, HasSubstr("a&lt;!--&lt;/script&gt;&lt;b&gt;&amp;"));
  for (const auto& [path, why] : std::vector<std::pair<std::string, std::string>>{
           {"none/page.html", "No such file"}, {"one", "Is a directory"}}) {
    const ProcessResult refused = bench({"one", "--size", "8m", "--html", path});
    EXPECT_EQ(refused.exit_status, 2);
    EXPECT_THAT(refused.err, HasSubstr("--html: cannot write " + path + ": " + why));
  }
}

TEST_F(BenchCommand, ExitsWithTwoAndSaysWhatWouldDo) {
  for (const auto& [arguments, text] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "no DIR was named"},
           {{"none"}, "cannot measure none: No such file or directory"},
           {{"file"}, "cannot measure file: Not a directory"},
           {{"one", "./one"}, "are the same directory"},
           {{"one", "--size", "0"}, "'0' is not a multiple of 4096"},
           {{"one", "--size", "-5"}, "'-5' is not a size"},
           {{"one", "--size=-1GiB"}, "'-1GiB' is not a size"},
           {{"one", "--bs", "0"}, "'0' is not a multiple of 4096"},
           {{"one", "--bs", "4097"}, "direct I/O needs; 4096 would do"},
           {{"one", "--bs", "2GiB"}, "is more than 1GiB"},
           {{"one", "--bs", "64k", "--size", "100k"}, "give --size 64KiB"},
           {{"one", "--iodepth", "0"}, "'0' is not a whole number from 1"},
           {{"one", "--iodepth", "4096", "--numjobs", "2"}, "more than 4096 requests"},
           {{"one", "--runtime", "0"}, "is not a time above zero"},
           {{"one", "--runtime", "-3"}, "is not a time above zero"},
           {{"one", "--time_based"}, "--time_based was given without --runtime"},
           {{"one", "--rw", "read", "--rwmixread", "30"}, "nothing of --rw mixes"},
           {{"one", "--rw", "raed"}, "did you mean 'read'?"},
           {{"one", "--pattern", "sweep", "--bs", "4k"}, "contradict each other"},
           {{"one", "--pattern", "sustaned"}, "did you mean 'sustained'?"},
           {{"one", "--ioengine", "libaio"}, "known: auto, io_uring, threads"},
           {{"one", "--direct", "yes"}, "is neither 0 nor 1"},
           {{"one", "--iodpeth", "3"}, "did you mean --iodepth?"}}) {
    const ProcessResult result = bench(arguments);
    EXPECT_EQ(result.exit_status, 2) << text << result.err;
    EXPECT_THAT(result.err, StartsWith("headrace: error: "));
    EXPECT_THAT(result.err, ::testing::HasSubstr(text));
    EXPECT_THAT(result.err, HasSubstr("what to do: "));
    EXPECT_EQ(result.out, "");
  }
  expect_nothing_left();
}

TEST_F(BenchCommand, RefusesWhatDoesNotFit) {
  const ProcessResult disk = bench({"one", "--size", "1048576GiB"});
  EXPECT_EQ(disk.exit_status, 3);
  EXPECT_THAT(disk.err, HasSubstr("too little space in one: 1024.0 TiB needed"));
  const ProcessResult memory = bench({"one", "--bs", "1GiB", "--iodepth", "4096", "--size", "1GiB"});
  EXPECT_EQ(memory.exit_status, 3);
  EXPECT_THAT(memory.err, HasSubstr("of buffers"));
  expect_nothing_left();
}

TEST_F(BenchCommand, RefusesADiskThatIsFullOrReadOnly) {
  ASSERT_EQ(::geteuid(), 0u) << "mounting needs root";
  const SmallDisk full(directory_ / "full", "size=1m");
  ASSERT_TRUE(full.mounted());
  testing::write_file(directory_ / "full/filler", std::string(1 << 20, 'x'));
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"full"}, {"full", "--size", "4m"}, {"one", "full", "--size", "4m"}}) {
    const ProcessResult result = bench(arguments);
    EXPECT_EQ(result.exit_status, 3) << result.err;
    EXPECT_THAT(result.err, HasSubstr("too little space in full"));
  }
  const SmallDisk fixed(directory_ / "fixed", "size=8m", MS_RDONLY);
  ASSERT_TRUE(fixed.mounted());
  const ProcessResult result = bench({"fixed", "--size", "4m"});
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.err, HasSubstr("cannot write to fixed: Read-only file system"));
  expect_nothing_left();
}

TEST_F(BenchCommand, SaysThatATmpfsIsNoDrive) {
  ASSERT_EQ(::geteuid(), 0u) << "mounting needs root";
  const SmallDisk memory(directory_ / "memory", "size=64m");
  ASSERT_TRUE(memory.mounted());
  const ProcessResult result = bench({"memory", "--size", "8m"});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("memory: does not suit training"));
  EXPECT_THAT(result.out, HasSubstr("from cache: tmpfs keeps files in memory"));
  const ProcessResult direct = bench({"memory", "--size", "8m", "--direct", "1"});
  EXPECT_EQ(direct.exit_status, 3) << direct.out;
  EXPECT_THAT(direct.err, HasSubstr("memory has no direct I/O"));
}

TEST_F(BenchCommand, PrintsWhatItHasAndLeavesNothingWhenInterrupted) {
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    testing::ProcessOptions options;
    options.arguments = {"bench", "one", "--size", "64m", "--time_based", "--runtime", "600"};
    options.directory = directory_.path();
    Process process(HEADRACE_BINARY, options);
    EXPECT_FALSE(process.wait_for(std::chrono::milliseconds(700)));
    process.send(signal);
    const ProcessResult result = process.finish(std::chrono::minutes(1));
    expect_nothing_left();
    if (signal == SIGKILL) continue;
    EXPECT_EQ(result.exit_status, 1);
    EXPECT_THAT(result.out, HasSubstr("Stopped before all was measured."));
    EXPECT_THAT(result.err, HasSubstr("ending the measurement"));
  }
}

}  // namespace
}  // namespace headrace
