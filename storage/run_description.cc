#include "storage/run_description.h"

#include <utility>

#include "storage/catalog.h"
#include "storage/run_dir.h"

namespace headrace::storage {

RunDescription describe_run(const std::string& run_dir) {
  CatalogContent content = Catalog(catalog_directory(run_dir), CatalogAccess::kRead).load();
  RunDescription description;
  description.model_json = std::move(content.model_json);
  description.step = content.step.step;
  description.layout = std::move(content.layout);
  description.metrics_bytes = content.step.metrics_bytes;
  description.metrics_text = std::move(content.step.metrics_text);
  for (const ShardRecord& shard : content.shards)
    description.shard_dirs.push_back(path_from_run(run_dir, shard.path));
  return description;
}

}  // namespace headrace::storage
