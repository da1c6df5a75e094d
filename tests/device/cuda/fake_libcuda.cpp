// A driver that is not there: enough of libcuda for rtface's Gpu, done on the host, at once and in order.
// FAKE_CUDA_KERNELS names libraries (a:b) with host_<kernel>(grid, block, arguments); FAKE_CUDA_ARGUMENTS says how many
// arguments each has ("crop=1,paste=1"); FAKE_CUDA_FAILS is the CUresult that everything returns from then on.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

typedef int R;
typedef void (*Host)(const unsigned*, const unsigned*, void**);
static const R OK = 0, OUT_OF_MEMORY = 2, NOT_FOUND = 500, NOT_SUPPORTED = 801;

struct Graph { std::vector<std::function<void()>> steps; };
struct Stream { Graph* capturing = nullptr; };
static size_t used = 0, limit = 1u << 30;
static std::map<void*, size_t> sizes;
static R failing() { const char* code = getenv("FAKE_CUDA_FAILS"); return code ? atoi(code) : OK; }
static Stream* of(void* stream) { return (Stream*)stream; }

static void step(void* stream, std::function<void()> work) {
  if (stream && of(stream)->capturing) of(stream)->capturing->steps.push_back(work);
  else work();
}

static Host host_kernel(const char* name) {
  static std::vector<void*> libraries;
  if (libraries.empty()) {
    std::string paths = getenv("FAKE_CUDA_KERNELS");
    for (size_t at = 0, end; at < paths.size(); at = end + 1) {
      end = paths.find(':', at);
      if (end == std::string::npos) end = paths.size();
      libraries.push_back(dlopen(paths.substr(at, end - at).c_str(), RTLD_NOW));
    }
  }
  for (void* library : libraries)
    if (void* found = library ? dlsym(library, ("host_" + std::string(name)).c_str()) : nullptr) return (Host)found;
  return nullptr;
}

struct Launch { unsigned grid[3], block[3], shared; void* stream; void* attributes; unsigned count; };

// One function for each name that is asked for and not here, so that it can say which was called.
static std::vector<std::string> missing;
template <int N> static R unknown() { fprintf(stderr, "fake libcuda has no %s\n", missing[N].c_str()); return NOT_SUPPORTED; }
template <int... N> static std::vector<void*> unknowns(std::integer_sequence<int, N...>) { return {(void*)unknown<N>...}; }
static std::vector<void*> stubs = unknowns(std::make_integer_sequence<int, 1000>{});

extern "C" {
R cuInit(unsigned) { return OK; }
R cuDriverGetVersion(int* v) { *v = 13000; return OK; }
R cuDeviceGetCount(int* n) { *n = 1; return OK; }
R cuDeviceGet(int* d, int ordinal) { *d = ordinal; return ordinal == 0 ? OK : 101; }
R cuDeviceGetName(char* name, int n, int) { snprintf(name, n, "Fake GPU"); return OK; }
R cuDeviceGetUuid_v2(char* uuid, int) { memset(uuid, 7, 16); return OK; }
R cuDeviceGetAttribute(int* v, int a, int) { *v = a == 75 ? 9 : a == 76 ? 0 : a == 1 ? 1024 : 1; return OK; }
R cuDevicePrimaryCtxRetain(void** c, int) { *c = (void*)0x1000; return OK; }
R cuDevicePrimaryCtxRelease_v2(int) { return OK; }
static thread_local void* current = nullptr;
R cuCtxSetCurrent(void* c) { current = c; return OK; }
R cuCtxGetCurrent(void** c) { *c = current; return OK; }
R cuCtxPushCurrent_v2(void* c) { current = c; return OK; }
R cuCtxPopCurrent_v2(void** c) { if (c) *c = current; return OK; }
R cuCtxGetDevice(int* d) { *d = 0; return current ? OK : 201; }
R cuCtxGetDevice_v2(int* d, void*) { *d = 0; return OK; }
R cuCtxGetStreamPriorityRange(int* low, int* high) { *low = 0; *high = -5; return OK; }
R cuMemGetInfo_v2(size_t* free, size_t* total) { *free = limit - used; *total = limit; return OK; }
R cuMemAlloc_v2(uint64_t* p, size_t n) {
  if (used + n > limit) return OUT_OF_MEMORY;
  void* at = malloc(n); sizes[at] = n; used += n; *p = (uint64_t)at; return OK;
}
R cuMemFree_v2(uint64_t p) { used -= sizes[(void*)p]; sizes.erase((void*)p); free((void*)p); return OK; }
R cuMemAllocHost_v2(void** p, size_t n) { *p = malloc(n); return OK; }
R cuMemFreeHost(void* p) { free(p); return OK; }
R cuMemcpyAsync(uint64_t to, uint64_t from, size_t n, void* stream) {
  if (failing()) return failing();
  step(stream, [=] { memcpy((void*)to, (void*)from, n); }); return OK;
}
R cuStreamCreateWithPriority(void** s, unsigned, int) { *s = new Stream; return OK; }
R cuStreamCreate(void** s, unsigned) { *s = new Stream; return OK; }
R cuStreamDestroy_v2(void*) { return OK; }
R cuStreamSynchronize(void*) { return failing(); }
R cuStreamGetCtx(void*, void** c) { *c = (void*)0x1000; return OK; }
R cuStreamGetCtx_v2(void*, void** c, void** g) { *c = (void*)0x1000; if (g) *g = nullptr; return OK; }
R cuStreamGetDevice(void*, int* d) { *d = 0; return OK; }
R cuStreamGetPriority(void*, int* p) { *p = 0; return OK; }
R cuStreamGetFlags(void*, unsigned* f) { *f = 1; return OK; }
R cuStreamWaitEvent(void*, void*, unsigned) { return OK; }
R cuStreamIsCapturing(void* s, int* status) { *status = of(s)->capturing ? 1 : 0; return OK; }
R cuStreamGetCaptureInfo_v2(void* s, int* status, uint64_t* id, void** graph, void***, size_t* n) {
  *status = s && of(s)->capturing ? 1 : 0; if (id) *id = 1; if (graph) *graph = s ? of(s)->capturing : nullptr; if (n) *n = 0;
  return OK;
}
R cuStreamGetCaptureInfo_v3(void* s, int* status, uint64_t* id, void** graph, void*** d, void**, size_t* n) {
  return cuStreamGetCaptureInfo_v2(s, status, id, graph, d, n);
}
R cuStreamBeginCapture_v2(void* s, int) { of(s)->capturing = new Graph; return OK; }
R cuStreamEndCapture(void* s, void** graph) {
  *graph = of(s)->capturing; of(s)->capturing = nullptr; return OK;
}
R cuGraphInstantiateWithParams(void** e, void* g, void*) { *e = new Graph(*(Graph*)g); return OK; }
R cuGraphInstantiateWithFlags(void** e, void* g, uint64_t) { *e = new Graph(*(Graph*)g); return OK; }
R cuGraphLaunch(void* e, void*) { for (auto& f : ((Graph*)e)->steps) f(); return failing(); }
R cuUserObjectCreate(void** o, void*, void*, unsigned, unsigned) { *o = (void*)0x3000; return OK; }
R cuUserObjectRelease(void*, unsigned) { return OK; }
R cuGraphRetainUserObject(void*, void*, unsigned, unsigned) { return OK; }
R cuGraphReleaseUserObject(void*, void*, unsigned) { return OK; }
R cuGraphUpload(void*, void*) { return OK; }
R cuGraphDestroy(void* g) { delete (Graph*)g; return OK; }
R cuGraphExecDestroy(void* g) { delete (Graph*)g; return OK; }
R cuEventCreate(void** e, unsigned) { *e = new int(0); return OK; }
R cuEventDestroy_v2(void*) { return OK; }
R cuEventRecord(void*, void*) { return OK; }
R cuEventSynchronize(void*) { return failing(); }
R cuEventQuery(void*) { return failing(); }
R cuEventElapsedTime_v2(float* ms, void*, void*) { *ms = 0.5f; return OK; }
R cuEventElapsedTime(float* ms, void*, void*) { *ms = 0.5f; return OK; }
R cuLibraryLoadData(void** l, const void*, void*, void**, unsigned, void*, void**, unsigned) { *l = (void*)0x2000; return OK; }
R cuLibraryUnload(void*) { return OK; }
R cuLibraryGetKernel(void** k, void*, const char* name) {
  if (!host_kernel(name)) return NOT_FOUND;
  *k = strdup(name); return OK;
}
R cuKernelGetFunction(void** f, void* k) { *f = k; return OK; }
R cuLaunchKernelEx(const Launch* config, void* f, void** params, void**) {
  if (failing()) return failing();
  Host run = host_kernel((const char*)f);
  Launch c = *config;
  const char* text = getenv("FAKE_CUDA_ARGUMENTS");
  std::string all = "," + std::string(text ? text : ""), name = "," + std::string((const char*)f) + "=";
  int count = all.find(name) == std::string::npos ? 0 : atoi(all.c_str() + all.find(name) + name.size());
  std::vector<uint64_t> values(count);  // by value, as a launch takes them
  for (int i = 0; i < count; ++i) memcpy(&values[i], params[i], 8);
  step(c.stream, [=]() mutable {
    std::vector<void*> at;
    for (auto& v : values) at.push_back(&v);
    run(c.grid, c.block, at.data());
  });
  return OK;
}
R cuGetErrorName(R error, const char** s) {
  *s = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : error == 600 ? "CUDA_ERROR_NOT_READY"
     : error == 500 ? "CUDA_ERROR_NOT_FOUND" : error == 801 ? "CUDA_ERROR_NOT_SUPPORTED" : "CUDA_ERROR_UNKNOWN"; return OK;
}
R cuGetErrorString(R, const char** s) { *s = "as the test wanted"; return OK; }
R cuGetProcAddress_v2(const char* name, void** f, int, uint64_t, int* status) {
  std::string n(name);
  *f = nullptr;
  for (const char* suffix : {"_v3", "_v2", ""}) if (!*f) *f = dlsym(RTLD_DEFAULT, (n + suffix).c_str());
  if (!*f) { *f = stubs[missing.size()]; missing.push_back(n); }
  if (status) *status = 0;
  return OK;
}
R cuGetProcAddress(const char* name, void** f, int v, uint64_t flags) { return cuGetProcAddress_v2(name, f, v, flags, nullptr); }
}
