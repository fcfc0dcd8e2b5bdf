#include "storage/run_description.h"

#include "storage/catalog.h"
#include "storage/run_dir.h"

namespace headrace::storage {

RunDescription describe_run(const std::string& run_dir) {
  const CatalogContent content = Catalog(catalog_directory(run_dir), CatalogAccess::kRead).load();
  RunDescription description{content.model_json, {}, content.step.step};
  for (const ShardRecord& shard : content.shards)
    description.shard_dirs.push_back(path_from_run(run_dir, shard.path));
  return description;
}

}  // namespace headrace::storage
