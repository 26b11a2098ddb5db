"""Small imitations of the layouts of public data sets.

A builder writes the tables of a set below a folder, and calls `image` for each file
that its tables name.
"""

from collections.abc import Callable
from pathlib import Path

Image = Callable[[Path], None]  # writes one image file


def touch(path: Path) -> None:
    """An empty file: listing opens no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def table(path: Path, text: str) -> None:
    """Writes lines that are indented in the source."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line.strip()}\n" for line in text.strip().splitlines()))


def own(root: Path, image: Image) -> None:
    table(
        root / "export/labels.csv",
        """
        file,patient,label
        0001.dcm,P-0012,NORMAL
        sub/0002.dcm,P-0012,PNEUMONIA
        0003,P-0013,NORMAL
        """,
    )
    for name in ("0001.dcm", "sub/0002.dcm", "deeper/0003.dcm"):
        image(root / "export" / name)


def rsna(root: Path, image: Image) -> None:
    table(
        root / "rsna/stage_2_train_labels.csv",
        """
        patientId,x,y,width,height,Target
        0004cfab-14fd,,,,,0
        00313ee0-9eaa,,,,,0
        00436515-870c,264.0,152.0,213.0,379.0,1
        00436515-870c,562.0,152.0,256.0,453.0,1
        """,
    )
    table(
        root / "rsna/stage_2_detailed_class_info.csv",
        """
        patientId,class
        0004cfab-14fd,No Lung Opacity / Not Normal
        00313ee0-9eaa,Normal
        00436515-870c,Lung Opacity
        00436515-870c,Lung Opacity
        """,
    )
    for name in ("0004cfab-14fd", "00313ee0-9eaa", "00436515-870c"):
        image(root / f"rsna/stage_2_train_images/{name}.dcm")
    image(root / "rsna/stage_2_test_images/0000a175-0e68.dcm")


def nih(root: Path, image: Image) -> None:
    table(
        root / "nih/Data_Entry_2017.csv",
        """
        Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,\
View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],
        00000001_000.png,Cardiomegaly,0,1,58,M,PA,2682,2749,0.143,0.143,
        00000001_001.png,Pneumonia|Infiltration,1,1,58,M,PA,2894,2729,0.143,0.143,
        00000002_000.png,No Finding,0,2,81,M,PA,2500,2048,0.171,0.171,
        00000003_000.png,No Finding,0,3,81,F,AP,2582,2991,0.143,0.143,
        00000004_000.png,No Finding,0,4,82,M,PA,2582,2991,0.143,0.143,
        """,
    )
    names = [f"0000000{i}_00{j}.png" for i, j in ((1, 0), (1, 1), (2, 0), (3, 0))]
    table(root / "nih/train_val_list.txt", "\n".join(names))
    table(root / "nih/test_list.txt", "00000004_000.png")
    for i, name in enumerate([*names, "00000004_000.png"]):
        image(root / f"nih/images_00{i % 2 + 1}/images/{name}")


def chexpert(root: Path, image: Image) -> None:
    start = "CheXpert-v1.0-small/train"
    table(
        root / "CheXpert-v1.0-small/train.csv",
        f"""
        Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Pneumonia
        {start}/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,
        {start}/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,PA,,-1.0,1.0
        {start}/patient00002/study2/view2_lateral.jpg,Female,87,Lateral,,,-1.0,1.0
        {start}/patient00003/study1/view1_frontal.jpg,Male,41,Frontal,AP,,,-1.0
        {start}/patient00004/study1/view1_frontal.jpg,Male,41,Frontal,AP,,1.0,
        """,
    )
    for patient, study in ((1, 1), (2, 2), (3, 1), (4, 1)):
        image(root / f"{start}/patient0000{patient}/study{study}/view1_frontal.jpg")


def vindr(root: Path, image: Image) -> None:
    table(
        root / "vindr-pcxr/image_labels_train.csv",
        """
        image_id,rad_ID,No finding,Bronchitis,Brocho-pneumonia,Other disease,Pneumonia
        13f4ab78,R2,1.0,0.0,0.0,0.0,0.0
        4c6bb1ab,R3,0.0,0.0,1.0,0.0,0.0
        a5ed8a63,R1,0.0,0.0,0.0,0.0,1.0
        b1e3c9d2,R1,0.0,1.0,0.0,0.0,0.0
        """,
    )
    for name in ("13f4ab78", "4c6bb1ab", "a5ed8a63", "b1e3c9d2"):
        image(root / f"vindr-pcxr/train/{name}.dicom")


def covidx(root: Path, image: Image) -> None:
    table(
        root / "covidx/train.txt",
        """
        3 SARS-10.1148rg.242035193-Fig8a-day0.jpeg pneumonia cohen
        3 SARS-10.1148rg.242035193-Fig8b-day5.jpeg pneumonia cohen
        ANON56 16745_2_1.PNG COVID-19 actmed
        """,
    )
    for day in ("a-day0", "b-day5"):
        image(root / f"covidx/train/SARS-10.1148rg.242035193-Fig8{day}.jpeg")
    image(root / "covidx/train/16745_2_1.PNG")
    image(root / "covidx/test/16745_2_1.PNG")


def hugging_face(root: Path, image: Image) -> None:
    for split in ("train", "validation", "test"):
        folder = root / "imagefolder" / split
        table(
            folder / "metadata.csv",
            """
            file_name,label,caption
            0001.png,0,"Clear, no opacity"
            0002.png,1,Opacity
            """,
        )
        image(folder / "0001.png")
        image(folder / "0002.png")


# Heading of docs/manifests.md -> builder of the files that its commands read.
LAYOUTS: dict[str, Callable[[Path, Image], None]] = {
    "Manifests": own,
    "RSNA Pneumonia": rsna,
    "NIH ChestX-ray14": nih,
    "CheXpert": chexpert,
    "VinDr-PCXR": vindr,
    "COVIDx": covidx,
    "Hugging Face": hugging_face,
}
