// The edges of a graph in a file: a text with a line an edge, or a .npy array [edges, 2]. Read in pieces.
//
// Failure: Error (kUsage) that names the line or row, for anything that is no edge between nodes that exist.
#pragma once

#include <string>

#include "engine/train/graph.h"

namespace headrace::train {

// `path`: FOLDER/edges.txt or FOLDER/edges.npy, whichever is there; Error (kUsage) unless it is one of them.
std::string edge_file(const std::string& folder);
void read_edges(const std::string& path, uint64_t nodes, const Graph::EdgeVisitor& visit);

}  // namespace headrace::train
