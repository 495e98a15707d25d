#include "examples/reference_engine/reference_engine.h"

int main(int argc, char** argv) { return baton::reference::reference_engine_main(argc, argv); }
