"""Attacks on what the host's own requests rely on inside the world: its tools, and what they read when they start."""

from __future__ import annotations

from trellis.environments.environment import Environment
from trellis.environments.hostile.arena import Attacks, contained

TOOLS = "bash sh python3 python env du rm ls cat kill tar git"
REPLACE = f"""
mkdir -p ~/bin ~/.local/bin
for tool in {TOOLS}; do
    for folder in . ~/bin ~/.local/bin $(echo $PATH | tr : ' '); do
        printf '#!/bin/sh\\necho fake\\n' 2>/dev/null > $folder/$tool.new && chmod +x $folder/$tool.new 2>/dev/null &&
            mv -f $folder/$tool.new $folder/$tool 2>/dev/null
    done
done
export PATH=$PWD:~/bin:$PATH
true
"""
PLANT = """
mkdir -p ~/.local/lib ~/.config
site=$(python3 -c 'import site; print(site.getusersitepackages())')
mkdir -p $site
for file in $site/sitecustomize.py $site/usercustomize.py $site/x.pth sitecustomize.py usercustomize.py json.py os.py \
    socket.py ~/.pythonrc.py; do
    echo 'import posix; posix.mkdir("/tmp/ran-"+str(posix.getpid()))' > $file
done
for file in ~/.bashrc ~/.bash_profile ~/.profile ~/.bash_login ~/.inputrc ~/.bash_logout .bashrc; do
    echo 'touch /tmp/ran-$$' > $file
done
export BASH_ENV=~/.bashrc ENV=~/.bashrc PYTHONSTARTUP=~/.pythonrc.py PROMPT_COMMAND='touch /tmp/ran-prompt'
rm -f /tmp/ran-*
"""


class Tampering(Attacks):
    async def test_replaced_tools(self, world: Environment) -> None:
        """bash, python3, env, du, rm and others replaced in the workdir, in home and in every folder of PATH."""
        await world.exec(REPLACE)
        for command in (["bash", "-c", "echo real"], ["python3", "-c", "print('real')"], ["env", "echo", "real"]):
            assert (await world.exec(command)).stdout == b"real\n"
        assert (await world.exec("echo real; /bin/echo real")).stdout == b"real\nreal\n"
        shell = await world.open_shell()
        assert (await shell.run("echo real")).output == b"real\n"
        await shell.close()
        await world.write_file("written", b"real")
        assert await world.read_file("written") == b"real"
        await world.exec("rm -rf ~/bin ~/.local/bin")

    async def test_replaced_tools_in_a_fork(self, world: Environment) -> None:
        """The same, for what the host starts in a fork of the world."""
        await world.exec(REPLACE)
        fork = await world.fork()
        try:
            assert (await fork.exec("echo real")).stdout == b"real\n"
            assert (await fork.exec(["python3", "-c", "print('real')"])).stdout == b"real\n"
        finally:
            await fork.close()
        await world.exec("rm -rf ~/bin ~/.local/bin")

    async def test_start_up_files(self, world: Environment) -> None:
        """BASH_ENV, PYTHONSTARTUP, sitecustomize, usercustomize, modules of the same name and profiles, for what the
        host starts: another command, a shell, a fork of the world."""
        await world.exec(PLANT)
        shell = await world.open_shell()
        assert (await shell.run("ls /tmp/ran-* 2>/dev/null | wc -l")).output == b"0\n"
        await shell.close()
        await world.exec(["true"])
        await world.write_file("written", b"x")
        fork = await world.fork()
        try:
            for each in (world, fork):
                assert (await each.exec("ls /tmp/ran-* 2>/dev/null | wc -l")).stdout == b"0\n"
        finally:
            await fork.close()
        await world.exec("rm -rf ~/.bash* ~/.profile ~/.inputrc ~/.pythonrc.py ~/.local ~/.config")

    async def test_preloaded_libraries(self, world: Environment) -> None:
        """LD_PRELOAD and the linker's own files, for what the host starts."""
        plant = "export LD_PRELOAD=$PWD/evil.so LD_LIBRARY_PATH=$PWD LD_AUDIT=$PWD/evil.so; cp /bin/true evil.so"
        await world.exec(plant)
        shell = await world.open_shell()
        await shell.run(plant)
        assert (await world.exec("echo real $LD_PRELOAD $LD_LIBRARY_PATH")).stdout == b"real\n"
        written = (
            "for f in /etc/ld.so.preload /etc/ld.so.conf.d/x.conf /etc/ld.so.cache; do echo x > $f && echo wrote; done"
        )
        assert (await world.exec(written)).stdout == b""
        await shell.close()

    async def test_system_files(self, world: Environment) -> None:
        """Writing where programs, accounts and settings of the system lie."""
        places = "/ /usr /usr/bin /usr/lib /bin /sbin /lib /etc /var/lib /boot /opt /root /dev /sys /run/systemd"
        result = await world.exec(f"for d in {places}; do (echo x > $d/x-attacker) && echo $d; done; true")
        assert result.stdout == b""
        files = "/etc/passwd /etc/shadow /etc/group /etc/hosts /etc/resolv.conf /etc/sudoers /etc/crontab /bin/bash"
        assert (await world.exec(f"for f in {files}; do (echo x >> $f) && echo $f; done; true")).stdout == b""

    async def test_the_interpreter(self, world: Environment) -> None:
        """Changing the interpreter's own library, which the program that serves the host is made of."""
        change = """
import sysconfig
for name, folder in sysconfig.get_paths().items():
    try:
        open(os.path.join(folder, "attacker.pth"), "w").close()
        print("wrote", folder)
    except OSError:
        pass
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None)
    if file and os.access(file, os.W_OK):
        print("could change", file)
"""
        await contained(world, change)
