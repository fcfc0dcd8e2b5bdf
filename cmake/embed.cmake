# cmake -DNAME=kName -DFROM=file -DTO=file.cc -P embed.cmake: a C++ source that holds the bytes of a file.
file(READ ${FROM} bytes HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes
       "${bytes}")
file(WRITE ${TO} "#include \"tools/embedded.h\"
namespace headrace::tools {
namespace {
constexpr unsigned char kBytes[] = {
${bytes}0};
}
const std::string_view ${NAME}{reinterpret_cast<const char*>(kBytes), sizeof kBytes - 1};
}  // namespace headrace::tools
")
