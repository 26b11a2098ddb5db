from cxr_gan.runtime import cli


def test_command_stopped_by_ctrl_c_ends_without_a_traceback(capsys):
    @cli.command(example="--a=b")
    def stopped(_):
        raise KeyboardInterrupt

    assert stopped(["x"], None) == cli.STOPPED
    assert capsys.readouterr().err == "error: stopped\n"
