#include "tools/commands.h"

int main(int count, char** arguments) {
  return headrace::tools::run_headrace({arguments + (count > 0 ? 1 : 0), arguments + count});
}
