// The truth program as C++: mangled names, and exceptions thrown through two frames and caught.
#include "truth.c"
