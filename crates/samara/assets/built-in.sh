ls /usr | sort > /dev/null
python3 -I -c '
import ctypes, mmap, os, subprocess, threading

def work():
    blocks = [bytearray(200000) for _ in range(20)]
    for size in range(100000, 900000, 50000):
        blocks.append(bytearray(size))
        blocks.pop(0)

threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
subprocess.run(["ls", "/usr/lib"], stdout=subprocess.DEVNULL)
shared = mmap.mmap(-1, 1 << 16)
if os.fork() == 0:
    shared[0] = 1
    work()
    os._exit(0)
os.wait()
'
