#include "engine/math/views.h"
